"""Devices, and how many workers share them: each worker has a seat, a device and a share of it, while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pydantic import ByteSize, TypeAdapter, ValidationError

from lab.engines.devices import Device
from lab.errors import ConfigError, ResourceError

__all__ = ["Seat", "Seats", "Sharing", "memory_size", "share_of_machine"]

WHOLE = Fraction(1)
_SIZE = TypeAdapter(ByteSize)
_LEAST_MEMORY = 1_000_000  # bytes: `6` means six gigabytes, not six bytes


@dataclass(frozen=True)
class Seat:
    """Where one worker runs: a share of a device, taken when the worker starts and freed when it exits."""

    device: Device
    share: Fraction = WHOLE

    @property
    def is_shared(self) -> bool:
        """Whether other workers may have memory of the same GPU."""
        return self.device.is_gpu and self.share < 1


def share_of_machine(seat: Seat, devices: Sequence[Device]) -> Fraction:
    """Return the fraction of a machine's cores and memory that goes with a seat on one of its `devices`."""
    return seat.share / max(1, len(devices))


class Seats:
    """Shares of devices, of which no more than the whole is ever taken.

    Args:
        devices: what there is.
        most: maximum number of seats taken at a time; None for as many as fit.
    """

    def __init__(self, devices: Sequence[Device], most: int | None = None) -> None:
        self._free = dict.fromkeys(devices, WHOLE)
        self._taken: list[Seat] = []
        self._most = most

    @property
    def are_full(self) -> bool:
        """Whether no worker can have another, however little it needs."""
        return (self._most is not None and len(self._taken) >= self._most) or not any(self._free.values())

    def room(self, device: Device) -> Fraction:
        """Return the free share of a device."""
        return self._free[device]

    def take(self, shares: Mapping[Device, Fraction]) -> Seat | None:
        """Take a seat on the device with most free room; None if none has enough, or enough seats are taken.

        Args:
            shares: how much of each device the worker needs (0 < share <= 1); it does not fit on the others.
        """
        if self.are_full:
            return None
        fitting = [device for device, share in shares.items() if share <= self._free[device]]
        if not fitting:
            return None
        device = max(fitting, key=lambda each: self._free[each])  # the first of equals
        seat = Seat(device, shares[device])
        self._free[device] -= seat.share
        self._taken.append(seat)
        return seat

    def free(self, seat: Seat) -> None:
        """Give a seat back; the next worker may take it.

        Raises:
            ValueError: nobody has it.
        """
        self._taken.remove(seat)
        self._free[seat.device] += seat.share


@dataclass(frozen=True)
class Sharing:
    """How workers share devices.

    Args:
        devices: what there is.
        workers: maximum number of workers; None for as many as the devices take.
        per_gpu: workers on each GPU; None to count them from the memory that a trial needs, if that is known, and
            otherwise to spread `workers` evenly, one a GPU by default.
        gpu_memory: bytes of GPU memory that a trial needs, in place of what its study says.

    Raises:
        ConfigError: a number is less than 1, or both `per_gpu` and `gpu_memory` are given.
    """

    devices: Sequence[Device]
    workers: int | None = None
    per_gpu: int | None = None
    gpu_memory: int | None = None

    def __post_init__(self) -> None:
        given = {
            "workers": self.workers,
            "workers_per_gpu": self.per_gpu,
            "gpu_memory": self.gpu_memory,
        }
        for name, number in given.items():
            if number is not None and number < 1:  # it would wait for ever for a free seat
                raise ConfigError(f"{name} must be at least 1, but got {number}")
        if self.per_gpu and self.gpu_memory:
            raise ConfigError(
                "--workers-per-gpu and --gpu-memory both say how many workers share a GPU; give only one of them"
            )

    def seats(self) -> Seats:
        """Return the seats of the devices, all of them free."""
        return Seats(self.devices, self.workers)

    def shares(self, gpu_memory: int | None = None) -> dict[Device, Fraction]:
        """Return how much of each device a worker takes; a GPU with less memory than a trial needs is left out.

        Args:
            gpu_memory: bytes that one trial needs, as its study says.

        Raises:
            ResourceError: no GPU has as much.
        """
        needed = None if self.per_gpu else self.gpu_memory or gpu_memory
        shares = {device: self._share(device, needed) for device in self.devices}
        fitting = {device: share for device, share in shares.items() if share <= 1}
        if not fitting and self.devices:
            raise ResourceError(_too_small(needed or 0, self.devices))
        return fitting

    def whole(self) -> dict[Device, Fraction]:
        """Return the shares of a worker that has its GPU to itself."""
        return {device: WHOLE for device in self.devices if device.is_gpu}

    def _share(self, device: Device, needed: int | None) -> Fraction:
        if not device.is_gpu:
            return Fraction(1, self.workers or device.workers)
        if self.per_gpu:
            return Fraction(1, self.per_gpu)
        if needed and device.memory:
            return Fraction(needed, device.memory)
        gpus = sum(each.is_gpu for each in self.devices)
        return Fraction(1, max(device.workers, math.ceil((self.workers or 1) / gpus)))


def memory_size(text: str) -> int:
    """Return the bytes of a size with its unit, such as `6GB` or `500 MiB`.

    Raises:
        ConfigError: it is none, or less than a megabyte.
    """
    try:
        size = int(_SIZE.validate_python(text))
    except ValidationError:
        size = 0
    if size < _LEAST_MEMORY:
        raise ConfigError(f"--gpu-memory takes a size with its unit, such as 6GB, but got {text!r}")
    return size


def _too_small(needed: int, devices: Iterable[Device]) -> str:
    found = ", ".join(f"GPU {device.name} has {_gigabytes(device.memory or 0)}" for device in devices)
    return (
        f"gpu_memory: a trial needs {_gigabytes(needed)}, but {found}. Lower `gpu_memory` if trials need less, or "
        "run this where the GPUs are larger"
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
