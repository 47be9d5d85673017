"""Trainers for tests, made from settings and trained to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.config import TrialConfig
from lab.data import load_data
from lab.training import Interrupted, Trainer

__all__ = ["finish", "new_trainer", "stopped_after"]


def new_trainer(should_stop: Callable[[], bool] = lambda: False, **values: Any) -> Trainer:
    config = TrialConfig(**values)
    return Trainer(config, load_data(config), should_stop)


def finish(trained: Trainer) -> Trainer:
    for _ in trained.epochs():
        pass
    return trained


def stopped_after(steps: int, **values: Any) -> Trainer:
    """Return a trainer that was told to stop after some steps."""
    asked = iter([False] * steps + [True])
    stopped = new_trainer(lambda: next(asked), **values)
    with pytest.raises(Interrupted, match="asked to stop"):
        finish(stopped)
    return stopped
