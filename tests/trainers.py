"""Trainers for tests, made from settings and trained to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.config import TrialConfig
from lab.data import load_data
from lab.training import Trainer

__all__ = ["finish", "new_trainer"]


def new_trainer(should_stop: Callable[[], bool] = lambda: False, **values: Any) -> Trainer:
    config = TrialConfig(**values)
    return Trainer(config, load_data(config), should_stop)


def finish(trained: Trainer) -> Trainer:
    for _ in trained.epochs():
        pass
    return trained
