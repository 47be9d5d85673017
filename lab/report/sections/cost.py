"""What a study took: time on each device, and energy where something logged it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from lab.report.sections.source import Source, column
from lab.tracking import Tracker
from lab.tracking.tags import Tag

__all__ = ["Cost", "DeviceTime", "cost"]

_KILOWATT_HOURS = "metrics.energy_consumed"  # as codecarbon logs it
_WATTS = re.compile(r"metrics\.(system/gpu_\d+_power_usage_watts)")  # as MLflow logs it by NVML
_JOULES = 3.6e6  # in a kilowatt-hour


@dataclass(frozen=True)
class DeviceTime:
    """The trials on one kind of device: their number, the seconds they took together, and the mean of one."""

    device: str
    trials: int
    seconds: float
    each: float


@dataclass(frozen=True)
class Cost:
    """What the trials took.

    Attributes:
        devices: time by device; trials on several devices at once do not exist.
        cpu_seconds: of training on CPUs.
        gpu_seconds: of training on GPUs.
        wall_seconds: from the first trial's start to the last one's end, pauses included.
        epochs: trained altogether.
        kilowatt_hours: energy; None if nothing logged it.
        measured: number of trials with an energy, and what measured it.
    """

    devices: tuple[DeviceTime, ...]
    cpu_seconds: float
    gpu_seconds: float
    wall_seconds: float
    epochs: int
    kilowatt_hours: float | None
    measured: str


def cost(source: Source, tracker: Tracker) -> Cost:
    """Return what the trials took.

    Raises:
        TrackingError: the store fails.
    """
    runs = source.runs
    seconds = _numbers(runs, "metrics.seconds")
    device = column(runs, f"tags.{Tag.DEVICE}").fillna("unknown device").astype("str")
    devices = tuple(
        DeviceTime(str(name), len(group), float(group.sum()), float(group.mean()))
        for name, group in seconds.dropna().groupby(device)
    )
    cpu = sum(each.seconds for each in devices if each.device == "cpu")
    energy, measured = _energy(source, tracker, seconds)
    return Cost(
        devices,
        cpu,
        sum(each.seconds for each in devices) - cpu,
        _wall(runs),
        int(_numbers(runs, "metrics.epochs").sum()),
        energy,
        measured,
    )


def _wall(runs: pd.DataFrame) -> float:
    if runs.empty:
        return 0.0
    return float(
        (runs["end_time"].fillna(runs["start_time"]).max() - runs["start_time"].min()).total_seconds()
    )


def _energy(source: Source, tracker: Tracker, seconds: pd.Series[float]) -> tuple[float | None, str]:
    """Return the kilowatt-hours that codecarbon logged, or else the mean power that NVML logged times the seconds."""
    logged = _numbers(source.runs, _KILOWATT_HOURS).dropna()
    if len(logged):
        return float(logged.sum()), f"by codecarbon, of {len(logged)} of {len(source.runs)} trials"
    joules = pd.Series(0.0, index=source.runs.index)
    known = pd.Series(False, index=source.runs.index)
    for name in map(str, source.runs):
        if found := _WATTS.fullmatch(name):
            watts = _mean_power(tracker, source.runs, found[1])
            joules += (watts * seconds).fillna(0.0)
            known |= (watts * seconds).notna()
    if not known.any():
        return None, ""
    whose = "by NVML for whole GPUs, shared or not"
    return float(joules.sum() / _JOULES), f"{whose}, of {int(known.sum())} of {len(source.runs)} trials"


def _mean_power(tracker: Tracker, runs: pd.DataFrame, metric: str) -> pd.Series[float]:
    """Return the mean of what each run logged as `metric`, in watts; NaN where it logged nothing."""
    logged = runs.loc[runs[f"metrics.{metric}"].notna(), "run_id"]
    means = tracker.curves(list(logged), [metric]).groupby("run_id")["value"].mean()
    return runs["run_id"].map(means).astype("float64")


def _numbers(runs: pd.DataFrame, name: str) -> pd.Series[float]:
    return pd.to_numeric(column(runs, name), errors="coerce").astype("float64")
