"""A study in a fresh SQLite database."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from lab.config import TrialConfig
from lab.study import TrialQueue, open_storage, open_study


@pytest.fixture
def make_queue(url: str) -> Callable[[int], TrialQueue]:
    """Makes the study `s` with some cells, of which the first has lr=0.001."""
    return lambda cells: filled(url, cells)


@pytest.fixture(scope="session")
def new_queue(fresh_databases: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], TrialQueue]:
    """Makes such a study in a database of its own at each call."""

    def make(cells: int) -> TrialQueue:
        file = tmp_path_factory.mktemp("study") / "optuna.db"
        shutil.copy(fresh_databases / "optuna.db", file)
        return filled(f"sqlite:///{file}", cells)

    return make


def filled(url: str, cells: int) -> TrialQueue:
    queue, _ = open_study(open_storage(url), "s", ["maximize"])
    for key, value in {"experiment": "s", "monitor": "val_accuracy", "run_id": "0" * 32}.items():
        queue.note(key, value)
    for number in range(cells):
        lr = (number + 1) / 1000
        queue.add(TrialConfig(lr=lr), f"lr={lr}", {"lr": lr}, {"lr": FloatDistribution(0.001, 10)})
    return queue
