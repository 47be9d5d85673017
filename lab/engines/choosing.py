"""From a profile to what starts its workers; whatever cannot work is told before anything is queued."""

from __future__ import annotations

from typing import TypedDict

from lab.engines.launcher import Launcher
from lab.engines.profiles import Profile
from lab.engines.stores import Stores

__all__ = ["Place", "place"]


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
        LabError: the engine cannot be used from here.
    """
    options = profile.options
    return Place(
        workers=options.get("workers"),
        workers_per_gpu=options.get("workers_per_gpu"),
        gpu_memory=options.get("gpu_memory"),
    )
