"""Checkpoints on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

__all__ = ["CorruptCheckpoint", "load_checkpoint", "save_checkpoint"]


class CorruptCheckpoint(Exception):  # noqa: N818  # says what the file is
    """A checkpoint file that cannot be read back."""


def save_checkpoint(state: dict[str, Any], file: Path) -> None:
    """Write `state` (tensors and plain values) to `file`, replacing it in one step.

    Raises:
        OSError: the disk is full or not writable; an older `file` is still whole.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        torch.save(state, partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(file: Path) -> dict[str, Any]:
    """Return the state in `file`, its tensors on the CPU.

    Raises:
        CorruptCheckpoint: truncated, altered, or holding anything but tensors and plain values.
    """
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        raise CorruptCheckpoint(f"{file}: {str(error).splitlines()[0] if str(error) else error!r}") from None
    if not isinstance(state, dict):
        raise CorruptCheckpoint(f"{file}: holds a {type(state).__name__}, not a checkpoint")
    return state
