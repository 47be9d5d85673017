"""Where a trial runs: the device, its precision, its CPU threads and memory."""

from __future__ import annotations

import ctypes
import functools
import sys
from contextlib import AbstractContextManager, nullcontext

import joblib
import torch

from lab.config import TrialConfig
from lab.errors import ConfigError, Fault

__all__ = ["autocast", "cores", "keep_freed_memory", "resolve_device", "use_threads"]


def resolve_device(config: TrialConfig) -> torch.device:
    """Return the device that `config.device` means here; `auto` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: no such device here, or it cannot compute in the config's precision.
    """
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts when it was built without CUDA
        reason = str(error).splitlines()[0]
        raise ConfigError(
            Fault(f"'{config.device}' cannot be used here ({reason}); use auto or cpu", "device")
        ) from None
    if config.precision == "bf16" and not _computes_bf16(device):
        raise ConfigError(Fault(f"bf16 is not supported on {device}; use precision=fp32", "precision"))
    return device


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu"


def autocast(config: TrialConfig, device: torch.device) -> AbstractContextManager[object]:
    """Return the context that the forward pass runs in."""
    if config.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def cores() -> int:
    """Return how many cores this process may use: CPU affinity and container quotas count."""
    return int(joblib.cpu_count())


def use_threads(config: TrialConfig) -> int:
    """Set torch's CPU threads to `config.threads` (None: every core this process may use); return how many.

    The count belongs to a trial's exact numbers: another one adds up sums in another order.
    """
    threads = config.threads or cores()
    torch.set_num_threads(threads)
    return threads


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what this process frees, for the next step's activations.

    glibc gives large blocks back to the system at once, so every step has its activations mapped and zeroed anew:
    65,000 page faults a step of conv5, a fifth of its time. Only the place of tensors changes, no number.
    """
    if not sys.platform.startswith("linux"):
        return
    largest_mapped, trim_above = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(largest_mapped, 2**30)
        mallopt(trim_above, 2**31 - 1)
