"""Options that say where workers run, how many, and what each of them gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lab import engines

__all__ = ["engine_options", "profile_from"]

Command = TypeVar("Command", bound=Callable[..., Any])

_GIVEN = (
    "workers",
    "workers_per_gpu",
    "gpu_memory",
    "gpus_per_worker",
    "time",
    "partition",
    "address",
)


class _MemorySize(click.ParamType[int]):
    """A size such as `6GB`, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return value if isinstance(value, int) else engines.memory_size(str(value))


class _Amount(click.FloatRange):
    """A number of GPUs: whole, or a fraction of one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        amount = float(super().convert(value, param, ctx))
        return int(amount) if amount.is_integer() else amount


_OPTIONS = (
    click.option(
        "--on",
        metavar="NAME",
        help="Where workers run: local (this machine), slurm, ray, or a profile of yours in lab.yaml or "
        "~/.config/lab/engines.yaml.  [default: local]",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Maximum number of workers, each of which trains one trial at a time.  "
        "[default: one per GPU, or one per core without GPUs; Slurm and Ray need it, here or in the profile]",
    ),
    click.option(
        "--workers-per-gpu",
        type=click.IntRange(min=1),
        metavar="N",
        help="Number of workers that share each GPU; ignored without GPUs. Not with Slurm.  "
        "[default: 1, or as many as --gpu-memory allows]",
    ),
    click.option(
        "--gpu-memory",
        type=_MemorySize(),
        metavar="SIZE",
        help="GPU memory that one trial needs, e.g. 6GB: each GPU is shared by as many workers as fit. Only on this "
        "machine.  [default: gpu_memory of the grid file]",
    ),
    click.option(
        "--gpus-per-worker",
        type=_Amount(min=0),
        metavar="N",
        help="GPUs for each worker of Slurm or Ray; with Ray also a fraction of one, such as 0.5.  "
        "[default: none; with Ray, one if its cluster has any]",
    ),
    click.option(
        "--time",
        metavar="TIME",
        help="Time limit of each Slurm job, e.g. 4h or 1-12:00:00. Shortly before it, the worker puts its trial back, "
        "and another continues it.  [default: the partition's]",
    ),
    click.option("--partition", metavar="NAME", help="Slurm partition.  [default: the cluster's]"),
    click.option(
        "--job",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other option of submitit's Slurm executor or of Ray, e.g. --job cpus_per_task=4. May be repeated.",
    ),
    click.option(
        "--address",
        metavar="ADDRESS",
        help="Address of a Ray cluster, e.g. ray://head:10001.  [default: RAY_ADDRESS, or the Ray that runs on this "
        "machine, or one that is started for this command]",
    ),
)


def engine_options(command: Command) -> Command:
    """Add `--on`, `--workers` and the options of engines; `profile_from` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def profile_from(options: dict[str, Any]) -> engines.Profile:
    """Remove the values of `engine_options` from `options`, and return the engine that they choose."""
    given = {name: options.pop(name) for name in _GIVEN}
    return engines.find_profile(options.pop("on"), given, options.pop("job"))
