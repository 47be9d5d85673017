"""Whether a dataset's images fit into this process's share of the memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import torch

from lab.children import share
from lab.config import TrialConfig

__all__ = ["too_large"]

_PART = 4  # of the free memory: the net and other programs need some, too
_CGROUP = Path("/sys/fs/cgroup")


def too_large(config: TrialConfig, images: int, shape: tuple[int, int, int]) -> str:
    """Return why a dataset is not kept in memory, as a line for the user; empty if it is.

    Args:
        config: its settings data_in_memory and device matter.
        images: their number.
        shape: of an image, [C, H, W].
    """
    if config.data_in_memory is not None:
        return "" if config.data_in_memory else "images: decoded for every batch (data_in_memory: false)"
    size = images * shape[0] * shape[1] * shape[2]
    room = min(float(_free_memory() * share()), _free_on(config.device)) / _PART
    if size <= room:
        return ""
    return (
        f"images: decoded for every batch, because all of them ({_in_words(size)}) take more than a quarter of the free"
        f" memory ({_in_words(room)}); data_in_memory: true keeps them in memory anyway"
    )


def _free_memory() -> int:
    """Return how many bytes this machine has free, or this container."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no such limit
        most, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        # what the kernel keeps of files, it gives away
        cached = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, most - used + int(cached.get("file", 0)))
    return max(0, free)


def _free_on(device: str) -> float:
    """Return how many bytes a GPU has free; infinite for other devices, which share the machine's memory."""
    if not device.startswith("cuda"):
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    return float(free)


def _in_words(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
