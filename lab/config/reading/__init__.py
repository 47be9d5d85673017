"""Reading a grid file: its keys, what varies, which cells are meant; every fault with its place in the file."""
