"""The files and folders that belong to the writes of a journal."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lab.tracking.lock import Lock
from lab.tracking.writes import Write

__all__ = ["READING", "JournalFiles", "delete_journal"]

# Held while a journal is read from outside, and while one is deleted: SQLite's readers create files, which would
# stay in a folder that is being deleted.
READING = threading.Lock()


def delete_journal(folder: Path) -> None:
    """Delete a journal that this process has locked."""
    with READING, suppress(OSError):
        for place in folder.iterdir():
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            elif place.name not in (Lock.name, Lock.holder):
                place.unlink(missing_ok=True)
        (folder / Lock.name).unlink()  # last: until then no other process can take the journal
        (folder / Lock.holder).unlink(missing_ok=True)
        folder.rmdir()


class JournalFiles:
    """The files and folders that belong to the writes of a journal, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "files").mkdir(exist_ok=True)

    def path(self, file: str | None) -> Path | None:
        """Return the place of a file, by its name in the journal."""
        return self._folder / file if file else None

    def save(self, write: Write) -> str:
        """Keep the file of a write; return its name in the journal."""
        file = f"files/{uuid.uuid4().hex}/{write.file_name}"
        (self._folder / file).parent.mkdir()
        try:
            write.save(self._folder / file)
        except BaseException:
            self.discard([file])
            raise
        return file

    def discard(self, files: Iterable[str | Path | None]) -> None:
        """Delete files, each with its folder."""
        for file in files:
            if file is not None:
                shutil.rmtree((self._folder / file).parent, ignore_errors=True)

    def sync(self) -> None:
        """Wait until all of them are on the disk."""
        for folder, _, names in os.walk(self._folder / "files"):
            for name in names:
                # a missing one has just been delivered
                with suppress(FileNotFoundError), Path(folder, name).open("r+b") as file:
                    os.fsync(file.fileno())
