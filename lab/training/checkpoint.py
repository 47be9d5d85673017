"""Checkpoints: written whole or not at all, verified before they are read, read without running code.

A checkpoint is what `torch.save` writes, with the SHA-256 of all that as the comment that the zip format
allows at its end: `torch.load` reads it as ever. (Torch leaves out the zip's own checksums when it reads.)
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

_COMMENT = re.compile(rb"\x47\x00sha256:([0-9a-f]{64})")  # its length, 71, in two bytes; then the comment
_COMMENT_BYTES = 2 + 71
_NO_COMMENT = b"\0\0"  # its length where torch ends a file, and what was hashed in place of ours
_CHUNK = 1 << 20


class CorruptCheckpoint(Exception):  # noqa: N818  # says what the file is
    """A checkpoint file that cannot be read back."""


class CheckpointStore(Protocol):
    """Keeps the newest two checkpoints of one trial, so that a damaged one costs an epoch, not the trial."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`, and of those before it only the newest.

        Raises:
            LabError: it cannot be kept; those that were are still whole.
        """

    def load(self, damaged: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the whole ones, newest first, with their tensors on the CPU.

        Args:
            damaged: called with what is wrong with a file that is not whole; it is left out.
        """


class FolderCheckpoints:
    """Keeps them in a folder of the local disk: `last.pt`, and `before.pt`, which it replaced.

    Args:
        folder: of this trial alone; created when it is needed.
        hold: on the trial, confirmed before one is replaced: who has it now may keep its own in this folder.
    """

    def __init__(self, folder: Path, hold: Hold | None = None) -> None:
        self.folder = folder
        self._hold = hold or Hold()
        self._last = folder / "last.pt"
        self._before = folder / "before.pt"

    @property
    def newest(self) -> Path | None:
        """The file of the newest one, None without any; it is replaced as a whole, never written to."""
        return next((file for file in (self._last, self._before) if file.exists()), None)

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`, and of those before it only the newest: see `CheckpointStore.save`.

        Raises:
            ResourceError: the disk is full or not writable.
            Lost: the trial is somebody else's.
        """
        self._hold.confirm()
        _write(state, self._last, self._step_back)

    def load(self, damaged: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the whole ones, newest first, and delete the others: see `CheckpointStore.load`."""
        for left_over in self.folder.glob("*.partial"):  # by a process that was killed while it wrote
            left_over.unlink(missing_ok=True)
        for file in (self._last, self._before):
            if not file.exists() and not file.is_symlink():
                continue
            try:
                state = load_checkpoint(file)
            except CorruptCheckpoint as error:
                damaged(str(error))
                _remove(file)  # it must not count among the newest two
            else:
                yield state

    def _step_back(self) -> None:
        self._hold.confirm()  # writing it took a while
        with suppress(
            FileNotFoundError
        ):  # the first, or killed just after this: then the one before is there
            self._last.replace(self._before)


def _remove(file: Path) -> None:
    """Remove what stands in a checkpoint's place; of a link only the link."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file, ignore_errors=True)
    else:
        file.unlink(missing_ok=True)


def save_checkpoint(state: dict[str, Any], file: Path) -> None:
    """Write `state` (tensors and plain values) to `file`, replacing it in one step.

    Raises:
        ResourceError: the disk is full or not writable; an older `file` is still whole.
    """
    _write(state, file, lambda: None)


def load_checkpoint(file: Path, *, unverified: bool = False) -> dict[str, Any]:
    """Return the state in `file`, its tensors on the CPU.

    Args:
        file: to read.
        unverified: whether one without a checksum is read too; one that does not match never is.

    Raises:
        CorruptCheckpoint: truncated, altered, or holding anything but tensors and plain values.
    """
    if not file.is_file():  # a folder, or a device that would never end
        raise CorruptCheckpoint(f"{file}: is no file")
    try:
        with file.open("rb") as opened:
            _verify(opened, unverified)
            opened.seek(0)
            state: dict[str, Any] = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # a hostile file makes torch raise anything
        first_line = str(error).partition("\n")[0]
        raise CorruptCheckpoint(f"{file}: {first_line or repr(error)}") from None
    if not isinstance(state, dict):
        raise CorruptCheckpoint(f"{file}: holds a {type(state).__name__}, not a checkpoint")
    return state


class _Hashing:
    """A file for `torch.save` that hashes what it writes, and keeps the error that torch tells as another."""

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
    # Nothing waits for the disk itself (fsync): a process that dies loses nothing by it, and what a machine
    # that dies leaves half written is found by its checksum.
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
            " Free space there or make the folder writable; the trial can be tried again afterwards"
        ) from None


def _save(state: dict[str, Any], opened: BinaryIO) -> None:
    hashing = _Hashing(opened)
    try:
        torch.save(state, hashing)  # type: ignore[arg-type]  # all that it asks of a file
    except RuntimeError:
        if hashing.error is not None:  # torch calls a full disk "unexpected pos"
            raise hashing.error from None
        raise
    comment = b"sha256:" + hashing.digest.hexdigest().encode()
    opened.seek(-len(_NO_COMMENT), io.SEEK_CUR)
    opened.write(struct.pack("<H", len(comment)) + comment)


def _verify(opened: BinaryIO, unverified: bool) -> None:
    """Compare what is in the file with the checksum at its end.

    Raises:
        CorruptCheckpoint: they differ, or there is none and that is not allowed.
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
