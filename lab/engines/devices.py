"""The devices of this machine: which GPUs its workers may use, and how much memory each has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from lab.training import cores

try:
    import pynvml  # `pip install lab[gpu]`
except ImportError:
    pynvml: Any = None  # type: ignore[no-redef]

__all__ = ["VISIBLE", "Device", "Gpu", "devices_here", "memory_of", "visible_gpus"]

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Device:
    """A GPU, or the CPU with all its cores.

    Args:
        name: what `CUDA_VISIBLE_DEVICES` calls a GPU, such as `2` or `GPU-6e3b…`; `cpu` for the CPU.
        memory: in bytes; None if it is not known, or is shared with everything else on the machine.
        workers: how many workers it takes unless asked for another number: 1 for a GPU, the cores of a CPU.
    """

    name: str
    memory: int | None = None
    workers: int = 1

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name != "cpu"


def devices_here() -> list[Device]:
    """Return the GPUs that this process may use, or the CPU if there are none.

    A list in `CUDA_VISIBLE_DEVICES` is followed as it is: a GPU keeps the name it has there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = visible_gpus(os.environ.get(VISIBLE), count)
    if not names:
        return [Device("cpu", workers=cores())]
    gpus, in_order = _gpus_by_nvml(), os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    known = [memory_of(name, gpus, in_order=in_order) for name in names]
    return [
        Device(name, memory or _memory_by_torch(place))
        for place, (name, memory) in enumerate(zip(names, known, strict=True))
    ]


def visible_gpus(listed: str | None, count: int) -> list[str]:
    """Return the names of the GPUs that workers may use, each of them a value for their `CUDA_VISIBLE_DEVICES`.

    Args:
        listed: `CUDA_VISIBLE_DEVICES` of this process, such as `2,3` or `GPU-6e3b…`; None if it is not set.
        count: how many GPUs CUDA finds here.
    """
    if not count:
        return []
    if listed is None:
        return [str(index) for index in range(count)]
    # CUDA takes no notice of what follows an entry that is none
    names = takewhile(lambda name: name and not name.startswith("-"), map(str.strip, listed.split(",")))
    distinct = list(dict.fromkeys(names))
    # of several MIG devices CUDA shows a process only the first; each worker has one of its own
    return distinct if distinct and distinct[0].startswith("MIG-") else distinct[:count]


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG device, of the machine as NVIDIA's driver knows it; `memory` is in bytes."""

    uuid: str
    memory: int


def memory_of(name: str, gpus: Sequence[Gpu], *, in_order: bool) -> int | None:
    """Return the memory of the GPU called `name` in bytes, None if that does not tell which GPU it is.

    Args:
        name: an index, or the beginning of a UUID.
        gpus: those of the machine, by PCI address.
        in_order: whether CUDA numbers them by PCI address, too; its default is by speed.
    """
    if name.isdecimal():
        sizes = {gpu.memory for gpu in gpus if gpu.uuid.startswith("GPU-")}
        if len(sizes) == 1:
            return sizes.pop()
        return gpus[int(name)].memory if in_order and int(name) < len(gpus) else None
    return next((gpu.memory for gpu in gpus if gpu.uuid.startswith(name)), None)


def _gpus_by_nvml() -> list[Gpu]:
    """Return all GPUs, then all MIG devices; nothing without the library or the driver."""
    if pynvml is None:
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        parts = [part for handle in handles for part in _mig_devices(handle)]
        return [_described(handle) for handle in (*handles, *parts)]
    except pynvml.NVMLError:
        return []


def _mig_devices(handle: Any) -> list[Any]:
    found = []
    try:
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
    except pynvml.NVMLError:  # it cannot be divided, or into no more
        pass
    return found


def _described(handle: Any) -> Gpu:
    return Gpu(pynvml.nvmlDeviceGetUUID(handle), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total))


def _memory_by_torch(place: int) -> int | None:
    """Return the memory of the GPU that CUDA has at `place`; this initializes CUDA in this process."""
    if place >= torch.cuda.device_count():
        return None
    return int(torch.cuda.get_device_properties(place).total_memory)
