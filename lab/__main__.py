"""`python -m lab` is `lab`: Python's garbage collector is set up, the command is run, and the process ends at once."""

from __future__ import annotations

import atexit
import gc
import os
import sys

__all__ = ["run"]

# Imports make a million objects that stay. Python would look through them after every 700 new ones, and several times
# at its exit: that is a third of the time of a command that only looks.
_NEW_OBJECTS = 200_000


def run() -> None:
    """Run the command that `sys.argv` asks for, and end this process with its exit code."""
    gc.set_threshold(_NEW_OBJECTS)
    codes: list[int] = []
    atexit.register(_leave, codes)  # called last, after all that is registered from now on
    from lab.cli import main  # these imports profit, too

    try:
        main(prog_name="lab")
    except SystemExit as end:
        if isinstance(end.code, int):
            codes.append(end.code)
        raise


def _leave(codes: list[int]) -> None:
    """End the process with the exit code of its command; without one, leave it to Python.

    Python would free the million objects one by one, which takes a tenth of a second and is of no use to anybody.
    """
    gc.freeze()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):  # Python says what cannot be written
        return
    for code in codes:
        os._exit(code)


if __name__ == "__main__":
    run()
