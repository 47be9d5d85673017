"""Augmentations of a whole batch at once, on the device, with an independent random draw per image.

There are two kinds. Most change images: uint8, [B, C, H, W], in and out, before normalisation, so whatever they uncover
or erase is black. Those that mix images with each other, and their labels with them, come after all others and after
normalisation (`mixing`).

All draws come from a CPU generator, with the same calls for any pixels, so the same seed gives the same draws on every
device, and nothing waits for the device. Results are in new memory.
"""
