"""What a worker on another machine says, as lines of a file that both machines see.

A line is written at once and the file closed after it, since NFS sends what was written when a file is closed, and
looks for news when one is opened. Nothing is lost where a disk is full for a while, nor where a line was cut short.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["EventReader", "EventWriter"]

_RETRY_SECONDS = 1.0


class EventWriter:
    """Appends lines to a file: the only writer of it.

    Args:
        file: that `EventReader.create` has created.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._unwritten: list[str] = []
        self._written = 0
        self._cut = False  # whether the file may end within a line

    def write(self, values: Mapping[str, Any]) -> None:
        """Append a line; if that cannot be done now, with the next."""
        self._written += 1
        self._unwritten.append(json.dumps([self._written, values]))
        self._flush()

    def close(self, seconds: float) -> bool:
        """Write what could not be written, for at most `seconds`; return whether everything is in the file."""
        end = time.monotonic() + seconds
        while not self._flush():
            if time.monotonic() >= end:
                return False
            time.sleep(_RETRY_SECONDS)
        return True

    def _flush(self) -> bool:
        if not self._unwritten:
            return True
        text = "\n" * self._cut + "".join(f"{line}\n" for line in self._unwritten)
        try:
            with self._file.open("a", encoding="utf-8") as output:
                output.write(text)
        except OSError:  # the disk is full, or the file system away: all of it is written again
            self._cut = True
            return False
        self._unwritten.clear()
        self._cut = False
        return True


class EventReader:
    """Reads the lines of a file while they are written.

    Every line has a number, by which one that was written twice is known.

    Args:
        file: to read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._offset = 0
        self._read = 0

    def create(self) -> None:
        """Create the file, for its owner only: other machines then need not learn that it exists."""
        os.close(os.open(self.file, os.O_CREAT | os.O_WRONLY, 0o600))

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what is new; a line that is not complete yet, at a later call."""
        try:
            with self.file.open("rb") as lines:
                lines.seek(self._offset)
                new = lines.read()
        except OSError:  # the file system is away
            return
        whole = new.rpartition(b"\n")[0]
        if not whole:
            return
        self._offset += len(whole) + 1
        for line in whole.splitlines():
            number, values = _parsed(line)
            if number > self._read:
                self._read = number
                yield values


def _parsed(line: bytes) -> tuple[int, dict[str, Any]]:
    """Return the number and the values of a line; the number 0 if it was cut short, and so written once more."""
    try:
        number, values = json.loads(line)
        return int(number), dict(values)
    except (ValueError, TypeError):
        return 0, {}
