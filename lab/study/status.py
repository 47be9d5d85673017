"""How studies stand, read without changing anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lab.errors import StudyError
from lab.study.planner import cell_states
from lab.study.queue import TrialQueue, failure, is_dead
from lab.study.storage import database_exists, display_url, open_storage

__all__ = ["StudyStatus", "best_value", "find_queue", "study_names", "study_status"]


@dataclass(frozen=True)
class StudyStatus:
    """A study's cells by state, the trials that run, were interrupted and failed, and the best value so far.

    A trial is `interrupted` when its worker, on this machine, is no more and nobody has queued it again.
    """

    name: str
    monitor: str
    states: dict[str, int]
    running: list[dict[str, Any]]
    interrupted: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    best_value: float | None
    best_label: str
    cancelled: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def study_names(url: str) -> list[str]:
    """Return the names of the studies in a database, none where there is no database yet."""
    if not database_exists(url):
        return []
    return sorted(optuna.get_all_study_names(open_storage(url)))


def find_queue(url: str, name: str) -> TrialQueue | None:
    """Return the trials of the study called `name`, None where there is no such study."""
    return TrialQueue(open_storage(url), name) if name in study_names(url) else None


def study_status(url: str, name: str) -> StudyStatus:
    """Return how the study called `name` stands.

    Raises:
        StudyError: no such study.
    """
    queue = find_queue(url, name)
    if queue is None:
        raise StudyError(f"No study '{name}' in {display_url(url)}")
    states = cell_states(queue)
    # each cell's last, though one that was tried again since has another state
    failures = {trial.user_attrs.get("cell", ""): trial for trial in queue.trials(TrialState.FAIL)}
    finished = queue.completed()
    held = queue.trials(TrialState.RUNNING)
    pick = max if queue.maximizes() else min
    best = pick(finished, key=lambda trial: best_value(trial) or 0.0) if finished else None
    return StudyStatus(
        name=name,
        monitor=queue.attributes().get("monitor", ""),
        states=dict(Counter(states.values())),
        running=[_running(trial) for trial in held if not is_dead(trial)],
        interrupted=[_running(trial) for trial in held if is_dead(trial)],
        failed=[_failed(trial) for cell, trial in failures.items() if states.get(cell) == "failed"],
        best_value=best_value(best) if best else None,
        best_label=best.user_attrs.get("label", str(best.number)) if best else "",
        cancelled=queue.is_cancelled(),
    )


def best_value(trial: FrozenTrial) -> float | None:
    """Return a trial's best value of the monitored metric, which need not be the first objective."""
    value = trial.user_attrs.get("best_value", trial.values[0] if trial.values else None)
    return None if value is None else float(value)


def _running(trial: FrozenTrial) -> dict[str, Any]:
    epoch = max(trial.intermediate_values, default=0)
    return {
        "label": trial.user_attrs.get("label", str(trial.number)),
        "epoch": epoch,
        "epochs": trial.user_attrs.get("config", {}).get("epochs"),
        "value": trial.intermediate_values.get(epoch),
        "worker": trial.user_attrs.get("worker") or "",
    }


def _failed(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "label": trial.user_attrs.get("label", str(trial.number)),
        "error": failure(trial),
        "run_id": trial.user_attrs.get("run_id"),
    }
