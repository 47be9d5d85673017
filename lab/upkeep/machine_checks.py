"""Checks of this machine: free disk space, and its GPUs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab import training
from lab.upkeep.finding import Finding, Verdict
from lab.wording import counted

__all__ = ["check_disks", "check_gpu"]

_GB = 1_000_000_000
_FEW_BYTES, _SMALL_SHARE = 5 * _GB, 0.05  # free bytes and free share of the disk that give a warning
_TOO_FEW_BYTES = _GB // 2  # free bytes that give a failure
_DRIVER = Path("/proc/driver/nvidia")


def check_disks(places: Mapping[str, Path], mends: Mapping[str, str]) -> Iterator[Finding]:
    """Check the free space in folders and whether they can be written; creates nothing.

    Args:
        places: folders by purpose; they need not exist.
        mends: what to do to free space, by purpose.
    """
    for what, folder in places.items():
        yield _disk(what, folder, mends[what])


def _disk(what: str, folder: Path, mend: str) -> Finding:
    check, there = f"disk, {what}", _nearest(folder)
    try:
        usage = shutil.disk_usage(there)
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"lab")
    except OSError as error:
        found = f"{there} cannot be written: {error.strerror or error}"
        return Finding(check, Verdict.FAILED, found, f"Make {there} a folder that this user may write to.")
    found = f"{usage.free / _GB:,.1f} GB of {usage.total / _GB:,.0f} GB free at {there}"
    if usage.free < _TOO_FEW_BYTES:
        return Finding(check, Verdict.FAILED, found, mend)
    if usage.free < _FEW_BYTES or usage.free < _SMALL_SHARE * usage.total:
        return Finding(check, Verdict.WARNING, found, mend)
    return Finding(check, Verdict.OK, found)


def _nearest(folder: Path) -> Path:
    """Return `folder`, or its nearest parent that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def check_gpu() -> Iterator[Finding]:
    """Check which devices trials can be trained on."""
    import torch  # here, so that an installation that is broken fails this check alone

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            found = f"cuda:{index}: {device.name}, {device.total_memory / _GB:,.0f} GB"
            yield Finding("GPU", Verdict.OK, found)
        return
    if not has_driver():
        count = training.cores()
        yield Finding("GPU", Verdict.OK, f"none; trains on {counted(count, 'CPU core')}")
        return
    if torch.version.cuda is None:
        found = f"an NVIDIA driver is installed, but torch {torch.__version__} was built without CUDA"
        mend = "pip install --force-reinstall torch torchvision (from PyPI, whose Linux build has CUDA)"
    else:
        found = f"an NVIDIA driver is installed, but torch {torch.__version__} finds no device"
        mend = (
            "nvidia-smi (start a container with --gpus all; CUDA_VISIBLE_DEVICES must not hide the devices)"
        )
    yield Finding("GPU", Verdict.WARNING, found, mend)


def has_driver() -> bool:
    """Whether an NVIDIA driver seems to be installed."""
    return shutil.which("nvidia-smi") is not None or _DRIVER.exists()
