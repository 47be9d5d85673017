"""What MLflow's variables name around a command."""

from __future__ import annotations

import pytest

from lab.engines.outer import experiment_for, ignored_variable, outer_run_id
from lab.errors import ConfigError
from lab.tracking import MemoryTracker


def test_without_variables_there_is_no_run_and_the_experiment_is_labs() -> None:
    assert outer_run_id("memory") is None
    assert experiment_for(None, MemoryTracker(), chosen=False) == "lab"
    assert experiment_for("mine", MemoryTracker(), chosen=False) == "mine"


def test_an_experiment_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = MemoryTracker()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", tracker.experiment("theirs"))
    assert experiment_for(None, tracker, chosen=False) == "theirs"
    assert experiment_for("theirs", tracker, chosen=False) == "theirs"
    assert experiment_for("mine", tracker, chosen=True) == "mine"
    with pytest.raises(
        ConfigError, match=r"names the experiment 'theirs', but MLFLOW_EXPERIMENT_NAME names 'mine'"
    ):
        experiment_for("mine", tracker, chosen=False)


def test_an_experiment_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "99")
    with pytest.raises(
        ConfigError, match=r"there is no experiment 99 at memory.* unset MLFLOW_EXPERIMENT_ID"
    ):
        experiment_for(None, MemoryTracker(), chosen=False)


@pytest.mark.parametrize(
    ("variables", "ignored"),
    [
        ({}, None),
        ({"MLFLOW_EXPERIMENT_NAME": "tiny"}, None),
        ({"MLFLOW_EXPERIMENT_NAME": "other"}, "MLFLOW_EXPERIMENT_NAME"),
        ({"MLFLOW_EXPERIMENT_ID": "7"}, "MLFLOW_EXPERIMENT_ID"),
        ({"MLFLOW_EXPERIMENT_ID": "7", "MLFLOW_RUN_ID": "ab"}, None),
    ],
)
def test_a_study_ignores_another_experiment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], ignored: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ignored_variable("tiny") == ignored
