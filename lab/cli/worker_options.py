"""Options that say how many workers train, and how they share GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lab import engines

__all__ = ["worker_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


class _MemorySize(click.ParamType[int]):
    """A size such as `6GB`, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return value if isinstance(value, int) else engines.memory_size(str(value))


def worker_options(command: Command) -> Command:
    """Add `--workers`, `--workers-per-gpu` and `--gpu-memory`."""
    command = click.option(
        "--gpu-memory",
        type=_MemorySize(),
        metavar="SIZE",
        help="GPU memory that one trial needs, e.g. 6GB: each GPU is shared by as many workers as fit.  "
        "[default: gpu_memory of the grid file]",
    )(command)
    command = click.option(
        "--workers-per-gpu",
        type=click.IntRange(min=1),
        metavar="N",
        help="Number of workers that share each GPU; ignored without GPUs.  "
        "[default: 1, or as many as --gpu-memory allows]",
    )(command)
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Maximum number of workers, each a process that trains one trial at a time.  "
        "[default: one per GPU, or one per core without GPUs]",
    )(command)
