"""Commands in a run of `mlflow run`, and with an experiment that the environment names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.tracking import RunStatus


@pytest.fixture
def opened(lab: Any) -> str:
    """The id of a run such as `mlflow run` opens."""
    tracker = lab.tracker
    run = tracker.open_run(name="opened", experiment=tracker.experiment("outer"), tags={})
    return str(run.run_id)


def outer(lab: Any) -> Any:
    return lab.tracker.runs(lab.tracker.experiment("outer")).iloc[0]


def test_a_run_opened_outside_is_the_trials(lab: Any, opened: str) -> None:
    result = lab("train", "--config", "config.yaml", "--epochs", "1", env={"MLFLOW_RUN_ID": opened})
    assert result.exit_code == 0
    run = outer(lab)
    assert (run["name"], run["status"], run["tags.lab.kind"]) == ("opened", "FINISHED", "trial")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", "--lr", "x"], "lr: must be a valid number"),
        (["train", "--actvation", "gelu"], "No such option '--actvation'"),
        (["train", "--dataset", "mnist"], "mnist is missing"),
        (["sweep", "nope.yaml"], "nope.yaml: no such file"),
        (["sweep"], "Missing argument 'GRID'"),
    ],
)
def test_a_run_opened_outside_is_not_left_running(lab: Any, opened: str, args: list[str], said: str) -> None:
    result = lab(*args, env={"MLFLOW_RUN_ID": opened})
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    run = outer(lab)
    assert (run["status"], run["tags.lab.outcome"]) == (RunStatus.FAILED, "failed")
    assert said in run["tags.lab.error"]


def finished(lab: Any) -> str:
    run = lab.tracker.open_run(
        name="done", experiment=lab.tracker.experiment("outer"), tags={"lab.kind": "trial"}
    )
    run.log_params({"lr": "0.5"})
    run.end(RunStatus.FINISHED)
    return str(run.run_id)


def measured(lab: Any) -> str:
    run = lab.tracker.open_run(name="else", experiment=lab.tracker.experiment("outer"), tags={})
    run.log_metrics({"loss": 1.0}, 1)
    return str(run.run_id)


@pytest.mark.parametrize(
    "args",
    [
        ["train", "--config", "config.yaml"],
        ["train", "--lr", "x"],
        ["sweep", "tiny.yaml"],
        ["sweep", "nope.yaml"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("make", "said"),
    [(finished, "which has ended (FINISHED)"), (measured, "which is about something else")],
)
def test_a_run_left_in_the_environment_is_not_written_to(
    lab: Any, make: Callable[[Any], str], said: str, args: list[str]
) -> None:
    run_id = make(lab)
    before = lab.tracker.record(run_id)
    result = lab(*args, env={"MLFLOW_RUN_ID": run_id})
    assert result.exit_code in (1, 2)
    if args[-1] not in ("x", "nope.yaml"):
        assert f"MLFLOW_RUN_ID names run {run_id}, {said}" in result.stderr
        assert "unset MLFLOW_RUN_ID" in result.stderr
    assert lab.tracker.record(run_id) == before
    assert len(lab.tracker.runs(None)) == 1


def test_a_run_of_another_store_is_none(lab: Any) -> None:
    result = lab("train", "--config", "config.yaml", env={"MLFLOW_RUN_ID": "ab" * 16})
    assert (result.exit_code, len(lab.tracker.runs(None))) == (1, 0)
    assert "MLFLOW_RUN_ID names run abab" in result.stderr
    assert "which is not at sqlite:///" in result.stderr


def test_the_environment_names_the_experiment(lab: Any) -> None:
    def experiment(*args: str, **env: str) -> str:
        result = lab("train", "--config", "config.yaml", "--epochs", "1", *args, env=env)
        assert result.exit_code == 0, result.stderr
        (new,) = set(lab.tracker.runs(None)["run_id"]) - seen
        seen.add(new)
        return str(names[lab.tracker._client.get_run(new).info.experiment_id])

    seen: set[str] = set()
    names = {lab.tracker.experiment(name): name for name in ("named", "by id", "given", "lab")}
    by_id = lab.tracker.experiment("by id")
    assert experiment(MLFLOW_EXPERIMENT_NAME="named") == "named"
    assert experiment(MLFLOW_EXPERIMENT_ID=by_id) == "by id"
    assert experiment("--experiment", "given", MLFLOW_EXPERIMENT_ID=by_id) == "given"
    assert experiment() == "lab"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"MLFLOW_EXPERIMENT_ID": "99"}, "MLFLOW_EXPERIMENT_ID: there is no experiment 99 at sqlite:///"),
        ({"MLFLOW_EXPERIMENT_ID": "x y"}, "MLFLOW_EXPERIMENT_ID: there is no experiment x y at sqlite:///"),
        (
            {"MLFLOW_EXPERIMENT_ID": "0", "MLFLOW_EXPERIMENT_NAME": "mine"},
            "MLFLOW_EXPERIMENT_ID names the experiment 'Default', but MLFLOW_EXPERIMENT_NAME names 'mine'",
        ),
    ],
)
def test_an_experiment_that_is_not_there_is_an_error(lab: Any, env: dict[str, str], said: str) -> None:
    result = lab("train", "--config", "config.yaml", env=env)
    assert result.exit_code == 2
    assert said in result.stderr
    assert lab.tracker.runs(None).empty
