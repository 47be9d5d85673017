"""Tells whether an error means that memory ran out, and how to explain it."""

from __future__ import annotations

import gc

import torch

from lab.config import TrialConfig

__all__ = ["explain_out_of_memory", "free_memory"]


def explain_out_of_memory(error: BaseException, config: TrialConfig) -> str:
    """Return an explanation if `error` means that memory ran out during a trial of `config`, else an empty string."""
    # on a CPU torch raises a plain RuntimeError
    if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
        return ""
    reason = str(error).rpartition("DefaultCPUAllocator: ")[2].partition(" GPU 0 has")[0].partition("\n")[0]
    size = f"image_size={config.image_size}" if config.image_size else "images at their own size"
    return (
        f"The device has too little memory for this trial (batch_size={config.batch_size}, {size},"
        f" precision={config.precision}): {reason} Lower `batch_size` or `image_size`, choose a smaller net, or set"
        " `precision: bf16`; other processes on the device need memory too"
    )


def free_memory() -> None:
    """Return unused memory to the device, for the next trial in this process."""
    gc.collect()
    torch.cuda.empty_cache()
