"""What a study took: time on each device, and energy where something logged it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lab.report.sections.source import Source, column
from lab.tracking import Tracker
from lab.tracking.tags import Tag

__all__ = ["Cost", "DeviceTime", "cost"]

_KILOWATT_HOURS = "metrics.energy_consumed"  # as codecarbon logs it
_WATTS = re.compile(r"metrics\.(system/gpu_\d+_power_usage_watts)")  # as MLflow logs it by NVML
_JOULES = 3.6e6  # in a kilowatt-hour
_UNKNOWN = "unknown device"


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
        gpu_seconds: of training on GPUs; what was trained on an unknown device counts as neither.
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
    device = column(runs, f"tags.{Tag.DEVICE}").fillna(_UNKNOWN).astype("str")
    devices = tuple(
        DeviceTime(str(name), len(group), float(group.sum()), float(group.mean()))
        for name, group in seconds.dropna().groupby(device)
    )
    energy, measured = _energy(source, tracker, seconds)
    return Cost(
        devices,
        sum(each.seconds for each in devices if each.device == "cpu"),
        sum(each.seconds for each in devices if each.device not in ("cpu", _UNKNOWN)),
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
    """Return the kilowatt-hours that codecarbon logged, or else those of the GPUs whose power NVML logged."""
    logged = _numbers(source.runs, _KILOWATT_HOURS).dropna()
    if len(logged):
        return float(logged.sum()), f"by codecarbon, of {len(logged)} of {len(source.runs)} trials"
    joules, known = 0.0, pd.Series(False, index=source.runs.index)
    for name in map(str, source.runs):
        if found := _WATTS.fullmatch(name):
            watts = _mean_power(tracker, source.runs, found[1])
            told = watts.notna() & seconds.notna()
            known |= told
            joules += _joules(source.runs[told], watts[told], seconds[told])
    if not known.any():
        return None, ""
    whose = "by NVML for all GPUs of the machines while a trial ran"
    return joules / _JOULES, f"{whose}, of {int(known.sum())} of {len(source.runs)} trials"


def _joules(runs: pd.DataFrame, watts: pd.Series[float], seconds: pd.Series[float]) -> float:
    """Return the energy of one GPU of each machine.

    Every trial logs the power of all GPUs of its machine, whichever it uses. So where several ran at once, the mean of
    what they logged counts once.
    """
    ended = runs["end_time"].fillna(runs["start_time"]).map(pd.Timestamp.timestamp)
    frame = pd.DataFrame({"began": ended - seconds, "ended": ended, "watts": watts})
    hosts = column(runs, f"tags.{Tag.HOST}").fillna("")
    return sum(_of_one_machine(mine) for _, mine in frame.groupby(hosts))


def _of_one_machine(trials: pd.DataFrame) -> float:
    times = np.concatenate([trials["began"], trials["ended"]])
    order = np.argsort(times, kind="stable")
    turn = np.repeat([1, -1], len(trials))
    running = np.cumsum(turn[order])[:-1]  # after each time, until the next
    watts = np.cumsum((turn * np.tile(trials["watts"], 2))[order])[:-1]
    return float((np.diff(times[order]) * watts / np.maximum(running, 1)).sum())


def _mean_power(tracker: Tracker, runs: pd.DataFrame, metric: str) -> pd.Series[float]:
    """Return the mean of what each run logged as `metric`, in watts; NaN where it logged nothing."""
    logged = runs.loc[runs[f"metrics.{metric}"].notna(), "run_id"]
    means = tracker.curves(list(logged), [metric]).groupby("run_id")["value"].mean()
    return runs["run_id"].map(means).astype("float64")


def _numbers(runs: pd.DataFrame, name: str) -> pd.Series[float]:
    return pd.to_numeric(column(runs, name), errors="coerce").astype("float64")
