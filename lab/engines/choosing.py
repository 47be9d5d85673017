"""From a profile to what starts its workers; whatever cannot work is told before anything is queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from lab.engines import ray, slurm
from lab.engines.launcher import Launcher
from lab.engines.node import Origin
from lab.engines.profiles import Profile
from lab.engines.reachable import check_reachable
from lab.engines.slurm import queue as slurm_queue
from lab.engines.stores import Stores
from lab.errors import ConfigError
from lab.registry import suggest

if TYPE_CHECKING:
    from lab.engines.ray import RayLauncher

__all__ = ["Place", "check_slurm", "place", "slurm_folder", "slurm_options"]

_GPUS = ("gpus_per_node", "gpus_per_task", "num_gpus")


class Place(TypedDict, total=False):
    """Arguments of `sweep` and `serve` that say where workers run."""

    workers: int | None
    workers_per_gpu: int | None
    gpu_memory: int | None
    launcher: Launcher | None
    elsewhere: bool


def place(profile: Profile, stores: Stores) -> Place:
    """Return where the workers of a profile run.

    Args:
        profile: the engine and its options.
        stores: that the workers need to reach.

    Raises:
        ConfigError: the workers cannot use these stores, or the engine refuses an option.
        LabError: the engine cannot be used from here.
    """
    options = profile.options
    if profile.engine == "slurm":
        return Place(
            workers=options["workers"],
            launcher=_slurm(profile, stores),
            elsewhere=options.get("cluster") != "local",
        )
    if profile.engine == "ray":
        launcher = _ray(profile, stores)
        return Place(workers=options["workers"], launcher=launcher, elsewhere=not launcher.is_here)
    return Place(
        workers=options.get("workers"),
        workers_per_gpu=options.get("workers_per_gpu"),
        gpu_memory=options.get("gpu_memory"),
    )


def slurm_folder(stores: Stores) -> Path:
    """Return the folder for what jobs and this process tell each other: next to the checkpoints, which nodes share."""
    return stores.checkpoint_dir.parent / "slurm"


def slurm_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the options of submitit's Slurm executor, and whether they ask for GPUs."""
    own = {
        key: value for key, value in options.items() if key not in ("workers", "cluster", "gpus_per_worker")
    }
    if options.get("gpus_per_worker"):
        own["gpus_per_node"] = options["gpus_per_worker"]
    return own, any(own.get(key) for key in _GPUS) or "gpu" in own.get("gres", "")


def check_slurm(profile: Profile, stores: Stores) -> None:
    """Check that jobs can be submitted here, and that their nodes can use the stores; raises like `place`."""
    if profile.options.get("cluster") == "local":
        return
    partition = profile.options.get("partition")
    slurm_queue.check_commands()
    _check_partitions(partition, slurm_queue.partitions())
    check_reachable(stores, "Slurm", slurm_queue.hosts(partition))


def _check_partitions(asked: str | None, known: Sequence[str]) -> None:
    """Check the names of partitions, separated by commas; any will do if Slurm does not say which there are."""
    for name in (asked or "").split(","):
        if name and known and name not in known:
            raise ConfigError(
                f"Slurm has no partition '{name}'.{suggest(name, known)} Known: {', '.join(known)}"
            )


def _slurm(profile: Profile, stores: Stores) -> Launcher:
    check_slurm(profile, stores)
    options, gpus = slurm_options(profile.options)
    return slurm.SlurmLauncher(
        slurm_folder(stores),
        profile.options["workers"],
        options,
        Origin.here(stores.server_file),
        gpus,
        profile.options.get("cluster", "slurm"),
    )


def _ray(profile: Profile, stores: Stores) -> RayLauncher:
    options = dict(profile.options)
    address, workers = options.pop("address", None), options.pop("workers")
    share = options.pop("workers_per_gpu", None)
    if share is not None:
        options["num_gpus"] = 1 / share
    launcher = ray.RayLauncher(address, workers, **options, origin=Origin.here(stores.server_file))
    if not launcher.is_here:
        check_reachable(stores, "Ray", launcher.machines())
    return launcher
