"""Tables of runs that other programs export."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import ConfigError, TrackingError
from lab.tracking import ForeignStudy, read_runs

WANDB = """Name,State,Created,Runtime,lr,optimizer,accuracy,loss
calm-lake-1,finished,2026-01-01,12,0.01,adam,0.91,0.31
wild-moon-2,crashed,2026-01-01,3,0.1,sgd,,NaN
new-dawn-3,running,2026-01-01,3,0.1,sgd,0.2,0.9
"""
NEPTUNE = "sys/id,sys/failed,parameters/lr,metrics/acc,monitoring/cpu\nA-1,False,0.1,0.5,3\nA-2,True,0.2,,\n"


def read(tmp_path: Path, text: str, *metrics: str, monitor: str | None = None) -> ForeignStudy:
    file = tmp_path / "runs.csv"
    file.write_text(text)
    return read_runs(file, metrics, monitor)


def test_columns_without_a_prefix_are_settings_unless_they_are_named(tmp_path: Path) -> None:
    found = read(tmp_path, WANDB, "accuracy", "loss", monitor="accuracy")
    first, second = found.runs  # the third has not ended
    assert (first.name, first.key, first.outcome) == ("calm-lake-1", "calm-lake-1", "completed")
    assert first.params == {"lr": "0.01", "optimizer": "adam"}
    assert first.metrics == {"accuracy": 0.91, "loss": 0.31}
    assert (second.outcome, second.metrics) == ("failed", {})
    assert (found.monitor, found.maximize) == ("accuracy", True)


def test_prefixes_say_what_a_column_is(tmp_path: Path) -> None:
    found = read(tmp_path, NEPTUNE)
    assert found.monitor == "acc"
    assert [(run.key, run.params, run.metrics, run.outcome) for run in found.runs] == [
        ("A-1", {"lr": "0.1"}, {"acc": 0.5}, "completed"),
        ("A-2", {"lr": "0.2"}, {}, "failed"),
    ]


def test_what_a_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"Which columns of runs\.csv are metrics\? Name each with --metric"
    ):
        read(tmp_path, WANDB)
    with pytest.raises(ConfigError, match=r"Which metric compares the runs\? .*--monitor: accuracy, loss"):
        read(tmp_path, WANDB, "accuracy", "loss")
    with pytest.raises(ConfigError, match=r"has no column 'acuracy'\. Did you mean 'accuracy'\?"):
        read(tmp_path, WANDB, "acuracy")
    with pytest.raises(TrackingError, match=r"runs\.csv has no rows; a header and a row for each run"):
        read(tmp_path, "a,b\n")
    with pytest.raises(TrackingError, match=r"none\.csv cannot be read as CSV: .*No such file"):
        read_runs(tmp_path / "none.csv")
