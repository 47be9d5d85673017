from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from lab.tracking import RunStatus


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"{text!r} was never said; {process.stderr.read() if process.stderr else ''}")


def test_flags_win_over_the_file(lab: Any) -> None:
    result = lab("train", "--config", "config.yaml", "--epochs", "3", "--batch_size", "64", "--name", "mine")
    assert result.exit_code == 0
    assert "epoch 3/3" in result.stdout
    assert "Browse it: mlflow server" in result.stdout
    run = lab.runs("lab").iloc[0]
    assert (run["name"], run["status"], run["tags.lab.outcome"]) == ("mine", "FINISHED", "completed")
    assert (run["params.epochs"], run["params.batch_size"], run["params.width"]) == ("3", "64", "4")
    assert run["run_id"] in result.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--lr", "fast"], ["lr: must be a valid number, but got 'fast'"]),
        (
            ["--lr", "x", "--activation", "geluu", "--depth", "0"],
            ["lr: ", "activation: ", "Did you mean 'gelu'?", "depth: "],
        ),
        (["--actvation", "gelu"], ["No such option '--actvation'", "--activation"]),
        (["more"], ["Got unexpected extra argument (more)"]),
        (["--config", "nope.yaml"], ["nope.yaml: no such file"]),
        (["--config", "bad.yaml"], ["bad.yaml:2: lr: ", "bad.yaml:3: aktivation: ", "'activation'"]),
        (["--depth", "9"], ["pool"]),
        (["--resume", "x", "--config", "config.yaml"], ["--resume", "leave out --config"]),
    ],
)
def test_a_mistake_is_told_once_and_costs_nothing(bare_lab: Any, args: list[str], said: list[str]) -> None:
    (bare_lab.home / "bad.yaml").write_text("dataset: synthetic\nlr: fast\naktivation: relu\n")
    result = bare_lab("train", *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("Error: ") == 1
    for text in said:
        assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert not (bare_lab.home / ".lab").exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--dataset", "mnist"], "Download it with: lab train --dataset mnist --download"),
        (["--dataset", "image_folder", "--data-dir", "nowhere"], "there is no folder "),
        (["--resume", "nope"], "There is no run nope"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_left(bare_lab: Any, args: list[str], said: str) -> None:
    result = bare_lab("train", *args)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not (bare_lab.home / ".lab").exists()


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("best:nothing", "There is no study 'nothing'"),
        ("0" * 32, f"config.yaml of run {'0' * 32} failed"),
        ("models:/digits/1", "Looking up the model models:/digits/1 failed"),
    ],
)
def test_a_model_that_is_not_there_to_begin_with_opens_no_run(lab: Any, origin: str, said: str) -> None:
    result = lab("train", "--config", "config.yaml", "--init-from", origin)
    assert result.exit_code == 1
    assert said in result.stderr
    assert lab.tracker.find_experiment("lab") is None


def test_it_begins_with_another_runs_model_and_freezes_it(lab: Any) -> None:
    assert lab("train", "--config", "config.yaml", "--epochs", "1").exit_code == 0
    source = lab.runs("lab").iloc[0]["run_id"]
    options = ["--classes", "pattern3,pattern1", "--freeze", "all_but_head", "--epochs", "1"]
    result = lab("train", "--config", "config.yaml", "--init-from", source, *options, "--name", "child")
    assert result.exit_code == 0
    child = lab.runs("lab").set_index("name").loc["child"]
    assert child["tags.lab.init_from_run"] == source
    assert child["metrics.trainable_params"] < child["metrics.params"]
    refused = lab("train", "--config", "config.yaml", "--init-from", source, "--width", "6")
    assert refused.exit_code == 2
    assert "features.conv1.weight is 4×3×3×3, this one's is 6×3×3×3" in refused.stderr


def test_a_run_that_is_not_there_cannot_be_continued(lab: Any) -> None:
    result = lab("train", "--resume", "nope")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Run with id=nope not found" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(lab: Any, number: int, code: int) -> None:
    process = lab.start("train", "--config", "config.yaml", "--epochs", "150")
    read_until(process, "epoch   3/150")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    run = lab.runs("lab").iloc[0]
    assert (run["status"], run["tags.lab.outcome"]) == ("KILLED", "killed")
    assert f"lab train --resume {run['run_id']}" in errors
    assert lab("train", "--resume", run["run_id"], "--lr", "0.5").exit_code == 2
    assert lab("train", "--resume", run["run_id"]).exit_code == 0
    lab("train", "--config", "config.yaml", "--epochs", "150", "--experiment", "calm")
    continued, calm = lab.runs("lab"), lab.runs("calm").iloc[0]
    assert continued["run_id"].tolist() == [run["run_id"]]
    assert continued["status"].tolist() == ["FINISHED"]
    assert lab.curves(run["run_id"]) == lab.curves(calm["run_id"])


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
