"""`python -m lab` is `lab`: Python's garbage collector is set up, and then the command is run."""

from __future__ import annotations

import atexit
import gc

__all__ = ["run"]

# Imports make a million objects that stay. Python would look through them after every 700 new ones, and several times
# at its exit: that is a third of the time of a command that only looks.
_NEW_OBJECTS = 200_000


def run() -> None:
    """Run the command that `sys.argv` asks for."""
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)
    from lab.cli import main  # these imports profit, too

    main(prog_name="lab")


if __name__ == "__main__":
    run()
