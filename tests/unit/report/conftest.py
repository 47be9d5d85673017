"""Studies in memory, without a grid file or any training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pytest

from lab.report import leaderboard
from lab.tracking import MemoryTracker, RunStatus


class MemoryStudy:
    """A study with a parent run, to which trials are added."""

    def __init__(self, varied: Sequence[str], direction: str = "maximize") -> None:
        self.varied = list(varied)
        self.tracker = MemoryTracker()
        self.experiment = self.tracker.experiment("s")
        tags = {"lab.study": "s", "lab.kind": "study", "lab.direction": direction}
        tags |= {"lab.varied": json.dumps(self.varied), "lab.monitor": "val_accuracy"}
        self.parent = self.tracker.open_run(name="s", experiment=self.experiment, tags=tags)

    def trial(
        self,
        params: Mapping[str, object],
        /,
        outcome: str = "completed",
        status: RunStatus = RunStatus.FINISHED,
        tags: Mapping[str, str] | None = None,
        **metrics: float,
    ) -> str:
        """Add a trial; return the id of its run."""
        name = " ".join(f"{key}={value}" for key, value in params.items() if key in self.varied) or "s"
        about = {"lab.study": "s", "lab.kind": "trial", "lab.outcome": outcome, **(tags or {})}
        run = self.tracker.open_run(name=name, experiment=self.experiment, tags=about)
        run.log_params({key: str(value) for key, value in params.items()})
        run.log_metrics(metrics)
        run.end(status)
        return run.run_id

    def board(self, **options: Any) -> pd.DataFrame:
        return leaderboard(self.tracker, self.experiment, study="s", **options)

    def runs(self) -> pd.DataFrame:
        return self.tracker.runs(self.experiment, tags={"lab.kind": "trial"})


@pytest.fixture
def memory_study() -> type[MemoryStudy]:
    return MemoryStudy
