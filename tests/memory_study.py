"""Studies in memory, without a grid file or any training."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lab.report import Source, leaderboard, read_source
from lab.tracking import MemoryTracker, RunStatus

__all__ = ["MemoryStudy", "many_trials"]


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

    def source(self) -> Source:
        return read_source(self.tracker, self.experiment, "s")

    def runs(self) -> pd.DataFrame:
        return self.tracker.runs(self.experiment, tags={"lab.kind": "trial"})


def many_trials(cells: int = 168, seeds: int = 3, epochs: int = 10) -> MemoryStudy:
    """Return a study of `cells` x `seeds` trials with curves, of which the first has kept its mistakes."""
    study = MemoryStudy(("lr", "optimizer", "activation", "depth", "net", "seed"))
    values = (
        ("0.1", "0.01", "0.001", "0.0001", "1e-05", "1e-06", "1e-07"),
        ("adam", "sgd"),
        ("relu", "gelu", "tanh"),
        ("1", "2"),
        ("plain", "<b>normed</b>"),
    )
    points = list(itertools.islice(itertools.product(*values), cells))
    for number, (point, seed) in enumerate(itertools.product(points, range(seeds))):
        add_trial(study, number, dict(zip(study.varied, (*point, seed), strict=True)), epochs)
    best = study.board()["run_id"].iloc[0]
    run = study.tracker.attach(best)
    run.log_text("true,cat,dog\ncat,8,2\ndog,1,9\n", "errors/confusion.csv")
    pair = {"true": "cat", "predicted": "dog", "count": 2, "share": 0.2}
    run.log_text(json.dumps([pair]), "errors/most_confused.json")
    return study


def add_trial(study: MemoryStudy, number: int, params: Mapping[str, object], epochs: int) -> None:
    """Add a trial that learns the faster the nearer its learning rate is to 0.01; every 17th diverges."""
    off = abs(math.log10(float(str(params["lr"]))) + 2) + (params["optimizer"] == "sgd")
    noise = math.sin(7.3 * number) / 50
    value = max(0.1, 0.97 - 0.1 * off + noise)
    outcome = "diverged" if number % 17 == 16 else "completed"
    size = 1000.0 * int(str(params["depth"])) * (2 if params["net"] == "plain" else 3)
    facts = {
        "params": size,
        "mult_adds": 40 * size,
        "seconds": 2 + noise,
        "epochs": float(epochs),
        "best_epoch": 3.0,
    }
    tags = {"lab.device": "cpu", "lab.trial": str(number)}
    run_id = study.trial(params, outcome, tags=tags, best_value=value, test_accuracy=value - 0.01, **facts)
    curves = {
        step: {
            "val_accuracy": value * (1 - 0.5**step),
            "val_loss": 2.3 * 0.7**step + off / 10,
            "train_loss": 2.3 * 0.6**step + off / 10,
        }
        for step in range(1, epochs + 1)
    }
    study.tracker.attach(run_id).log_history(curves)
