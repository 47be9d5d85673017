"""Where a trial runs: device, precision, CPU threads and memory."""

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
    """Return the device that `config.device` means here; `auto` means CUDA if available, else the CPU.

    Raises:
        ConfigError: there is no such device here, or it does not support the config's precision or `compile`.
    """
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises this if built without CUDA
        reason = str(error).splitlines()[0]
        raise ConfigError(
            Fault(f"'{config.device}' cannot be used here ({reason}); use auto or cpu", "device")
        ) from None
    if config.precision != "fp32" and not _computes(config.precision, device):
        raise ConfigError(
            Fault(f"{config.precision} is not supported on {device}; use precision=fp32", "precision")
        )
    if config.compile and (reason := _why_not_compiled(device)):
        raise ConfigError(Fault(f"torch.compile does not work here ({reason}); use compile=false", "compile"))
    return device


def _computes(precision: str, device: torch.device) -> bool:
    return device.type in ("cpu", "cuda") and (precision != "bf16" or _computes_bf16(device))


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu"


@functools.cache
def _why_not_compiled(device: torch.device) -> str:
    """Return why nothing can be compiled for `device`, such as a missing C++ compiler; empty if something can."""
    try:
        torch.compile(lambda number: number + 1)(torch.zeros(2, device=device))
    except Exception as error:  # noqa: BLE001  # torch raises anything, and wraps what its compilers raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0] if lines else type(error).__name__
    return ""


def autocast(config: TrialConfig, device: torch.device) -> AbstractContextManager[object]:
    """Return the context that the forward pass runs in."""
    if config.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if config.precision == "bf16" else torch.float16)


def cores() -> int:
    """Return how many cores this process may use, given its CPU affinity and container quota."""
    return int(joblib.cpu_count())


def use_threads(config: TrialConfig) -> int:
    """Set torch's CPU threads to `config.threads` (None: every core this process may use); return the number.

    A trial's exact results depend on it: another number of threads adds in another order.
    """
    threads = config.threads or cores()
    torch.set_num_threads(threads)
    return threads


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step's activations.

    glibc returns large blocks to the system at once, so the activations of every step are mapped and zeroed again:
    65,000 page faults per step of conv5, a fifth of its time. This changes where tensors are, not their values.
    """
    if not sys.platform.startswith("linux"):
        return
    largest_mapped, trim_above = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD in malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl does not have it
    if mallopt is not None:
        mallopt(largest_mapped, 2**30)
        mallopt(trim_above, 2**31 - 1)
