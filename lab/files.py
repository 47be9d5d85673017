"""Files that are written as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import ConfigError

__all__ = ["check_folder", "replacing"]


def check_folder(out: Path) -> None:
    """Check that the folder of `out`, the file that a command is to write, exists: before any work is done for it.

    Raises:
        ConfigError: it does not.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; create it, or write to another one")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield the path to write to; at the end that becomes `file`, so that nobody ever reads half of it.

    If the block raises, `file` stays as it was. What is no regular file, such as /dev/stdout, is written directly.

    Raises:
        OSError: the file cannot be replaced.
    """
    if file.exists() and not file.is_file():
        yield file
        return
    file = file.resolve()  # where it is a link, that stays
    part = file.with_name(f".{os.getpid()}.part.{file.name}")  # its suffix tells pandas how to compress it
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
