"""Checkpoints: written whole or not at all, verified before they are read, read without running code.

A checkpoint is what `torch.save` writes, followed by its SHA-256 in the comment that the zip format allows at the end
of a file. `torch.load` can still read it. (It does not verify the zip format's own checksums.)
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from lab.errors import ResourceError
from lab.hold import Hold

__all__ = ["CheckpointStore", "CorruptCheckpoint", "FolderCheckpoints", "load_checkpoint", "save_checkpoint"]

_COMMENT = re.compile(
    rb"\x47\x00sha256:([0-9a-f]{64})"
)  # the comment's length, 71, in two bytes; then the comment
_COMMENT_BYTES = 2 + 71
_NO_COMMENT = b"\0\0"  # length of the comment in torch's file, which is hashed in place of ours
_CHUNK = 1 << 20


class CorruptCheckpoint(Exception):  # noqa: N818  # it says what the file is
    """A checkpoint file that cannot be read."""


class CheckpointStore(Protocol):
    """Keeps the latest two checkpoints of one trial, so that a damaged one costs an epoch, not the trial."""

    def save(self, state: dict[str, Any]) -> None:
        """Save `state`, and keep only the latest of the earlier checkpoints.

        Raises:
            LabError: it cannot be saved; the earlier checkpoints are still intact.
        """

    def load(self, damaged: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the intact checkpoints, newest first, with their tensors on the CPU.

        Args:
            damaged: called with what is wrong with each damaged file, which is skipped.
        """


class FolderCheckpoints:
    """Keeps checkpoints in a local folder: `last.pt`, and `before.pt`, which it replaced.

    Args:
        folder: for this trial alone; created when needed.
        hold: on the trial, confirmed before a file is replaced: another worker that has it may use the same folder.
    """

    def __init__(self, folder: Path, hold: Hold | None = None) -> None:
        self.folder = folder
        self._hold = hold or Hold()
        self._last = folder / "last.pt"
        self._before = folder / "before.pt"

    @property
    def newest(self) -> Path | None:
        """The latest checkpoint's file, None if there is none; it is replaced as a whole, never modified."""
        return next((file for file in (self._last, self._before) if file.exists()), None)

    def save(self, state: dict[str, Any]) -> None:
        """Save `state`, and keep only the latest of the earlier checkpoints: see `CheckpointStore.save`.

        Raises:
            ResourceError: the disk is full or not writable.
            Lost: the trial belongs to another worker now.
        """
        self._hold.confirm()
        _write(state, self._last, self._step_back)

    def load(self, damaged: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the intact checkpoints, newest first, and delete damaged ones: see `CheckpointStore.load`."""
        for left_over in self.folder.glob("*.partial"):  # by a process that was killed while writing
            left_over.unlink(missing_ok=True)
        for file in (self._last, self._before):
            if not file.exists() and not file.is_symlink():
                continue
            try:
                state = load_checkpoint(file)
            except CorruptCheckpoint as error:
                damaged(str(error))
                _remove(file)  # it must not count as one of the latest two
            else:
                yield state

    def _step_back(self) -> None:
        self._hold.confirm()  # writing took a while
        # there is none yet, or a process was killed between the two steps: then `before.pt` exists
        with suppress(FileNotFoundError):
            self._last.replace(self._before)


def _remove(file: Path) -> None:
    """Remove whatever has the name of a checkpoint; of a link, only the link itself."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file, ignore_errors=True)
    else:
        file.unlink(missing_ok=True)


def save_checkpoint(state: dict[str, Any], file: Path) -> None:
    """Write `state` (tensors and plain values) to `file`, replacing it in one step.

    Raises:
        ResourceError: the disk is full or not writable; an older `file` is still intact.
    """
    _write(state, file, lambda: None)


def load_checkpoint(file: Path, *, unverified: bool = False) -> dict[str, Any]:
    """Return the state in `file`, its tensors on the CPU.

    Args:
        file: to read.
        unverified: whether to accept a file without a checksum; a wrong checksum is never accepted.

    Raises:
        CorruptCheckpoint: the file is truncated, altered, or contains anything but tensors and plain values.
    """
    if not file.is_file():  # it may be a folder, or a device that never ends
        raise CorruptCheckpoint(f"{file}: not a file")
    try:
        with file.open("rb") as opened:
            _verify(opened, unverified)
            opened.seek(0)
            state: dict[str, Any] = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # a hostile file makes torch raise anything
        first_line = str(error).partition("\n")[0]
        raise CorruptCheckpoint(f"{file}: {first_line or repr(error)}") from None
    if not isinstance(state, dict):
        raise CorruptCheckpoint(f"{file}: contains a {type(state).__name__}, not a checkpoint")
    return state


class _Hashing:
    """A file for `torch.save` that hashes what it writes, and keeps the error that torch reports as another."""

    def __init__(self, opened: BinaryIO) -> None:
        self._opened = opened
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            self._opened.write(content)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(content)
        return len(content)

    def flush(self) -> None:
        self._opened.flush()


def _write(state: dict[str, Any], file: Path, before_replacing: Callable[[], None]) -> None:
    # No fsync: a process that dies loses nothing without it, and the checksum finds files that a crashed machine left
    # half written.
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as opened:
                _save(state, opened)
            before_replacing()
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"The checkpoint {file} cannot be written: {error.strerror or error}."
            " Free some space or make the folder writable; then the trial can be retried"
        ) from None


def _save(state: dict[str, Any], opened: BinaryIO) -> None:
    hashing = _Hashing(opened)
    try:
        torch.save(state, hashing)  # type: ignore[arg-type]  # it needs no more of a file
    except RuntimeError:
        if hashing.error is not None:  # torch calls a full disk "unexpected pos"
            raise hashing.error from None
        raise
    comment = b"sha256:" + hashing.digest.hexdigest().encode()
    opened.seek(-len(_NO_COMMENT), io.SEEK_CUR)
    opened.write(struct.pack("<H", len(comment)) + comment)


def _verify(opened: BinaryIO, unverified: bool) -> None:
    """Compare the contents of the file with the checksum at its end.

    Raises:
        CorruptCheckpoint: they differ, or the checksum is missing and `unverified` is False.
    """
    size = opened.seek(0, io.SEEK_END)
    opened.seek(max(0, size - _COMMENT_BYTES))
    comment = _COMMENT.fullmatch(opened.read())
    if comment is None:
        if unverified:
            return
        raise CorruptCheckpoint("it has no checksum at its end: truncated, or not written by lab")
    digest = hashlib.sha256()
    opened.seek(0)
    left = size - _COMMENT_BYTES
    while left and (chunk := opened.read(min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    digest.update(_NO_COMMENT)
    if digest.hexdigest().encode() != comment[1]:
        raise CorruptCheckpoint("its checksum does not match its contents")
