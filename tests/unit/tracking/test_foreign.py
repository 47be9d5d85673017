"""Which runs of another program are here already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.errors import ConfigError
from lab.tracking import ForeignRun, ForeignStudy, MemoryTracker, as_shares, keep_foreign, read_runs

NAMELESS = "lr,accuracy\n0.1,0.5\n0.01,0.9\n"
REPEATED = "Name,lr,accuracy\nnet-a,0.1,0.91\nnet-b,0.2,0.85\nnet-a,0.1,0.92\n"


def kept(tracker: MemoryTracker, folder: Path, text: str, *metrics: str) -> tuple[int, int]:
    (folder / "runs.csv").write_text(text)
    study = read_runs(folder / "runs.csv", metrics or ["accuracy"], "accuracy")
    return keep_foreign(tracker, "theirs", study)


def accuracies(tracker: MemoryTracker) -> list[float]:
    runs = tracker.runs(tracker.experiment("theirs"), tags={"lab.kind": "trial"})
    return sorted(runs["metrics.accuracy"])


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        (NAMELESS, "lr,accuracy\n0.001,0.99\n0.10,.5\n0.01,0.9\n", [0.99]),  # a new first row
        (NAMELESS, f"{NAMELESS}0.1,0.5\n", [0.5]),  # the same result once more
        (REPEATED, f"{REPEATED}net-a,0.1,0.93\n", [0.93]),
    ],
)
def test_exactly_the_new_rows_of_a_file_without_ids_are_added(
    tmp_path: Path, before: str, after: str, new: list[float]
) -> None:
    tracker = MemoryTracker()
    kept(tracker, tmp_path, before)
    first = accuracies(tracker)
    assert kept(tracker, tmp_path, after) == (len(new), len(first))
    assert accuracies(tracker) == sorted(first + new)
    assert kept(tracker, tmp_path, after) == (0, len(first + new))


@pytest.mark.parametrize("text", [NAMELESS, REPEATED])
def test_runs_that_an_earlier_version_imported_are_known(tmp_path: Path, text: str) -> None:
    tracker = MemoryTracker()
    (tmp_path / "runs.csv").write_text(text)
    study = read_runs(tmp_path / "runs.csv", ["accuracy"])
    runs = [  # whose keys were names or the numbers of rows
        replace(run, key=str(number) if text == NAMELESS else run.name)
        for number, run in enumerate(study.runs)
    ]
    keep_foreign(tracker, "theirs", replace(study, runs=runs))
    assert kept(tracker, tmp_path, text) == (0, len(runs))
    assert kept(tracker, tmp_path, f"{text}{text.splitlines()[-1]}\n") == (1, len(runs))


def test_a_run_is_the_same_whichever_of_its_columns_are_metrics(tmp_path: Path) -> None:
    tracker = MemoryTracker()
    text = "Name,lr,accuracy,loss\na,0.1,0.5,1.50\n"
    assert kept(tracker, tmp_path, text) == (1, 0)
    assert kept(tracker, tmp_path, text, "accuracy", "loss") == (0, 1)


def test_accuracies_in_percent_are_refused_unless_they_are_named() -> None:
    run = ForeignRun(
        "1", "calm-lake-1", {}, {"test accuracy": 93.5, "loss": 2.0}, {1: {"test accuracy": 50.0}}
    )
    study = ForeignStudy("runs.csv", [run], "test accuracy", maximize=True)
    with pytest.raises(
        ConfigError,
        match=r"^runs\.csv: 'calm-lake-1' has test accuracy=93\.5, but accuracies are between 0 and 1\. If it is in "
        r"percent, import it with --percent 'test accuracy', which divides it by 100$",
    ):
        as_shares(study)
    (share,) = as_shares(study, ["test accuracy"]).runs
    assert (share.metrics, share.curves) == (
        {"test accuracy": 0.935, "loss": 2.0},
        {1: {"test accuracy": 0.5}},
    )
    with pytest.raises(
        ConfigError, match=r"--percent: runs\.csv has no metric 'los'\. Did you mean 'loss'\?"
    ):
        as_shares(study, ["los"])
