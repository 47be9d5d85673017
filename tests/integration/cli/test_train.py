"""`lab train`."""

from __future__ import annotations

import shlex
import signal
import subprocess
from typing import Any

import pytest

from lab.plugins import kept


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
    assert "Browse it: lab ui, then http://127.0.0.1:5000/#/experiments/" in result.stdout
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
def test_a_mistake_is_reported_once_and_costs_nothing(
    bare_lab: Any, args: list[str], said: list[str]
) -> None:
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
def test_what_is_missing_is_named_and_nothing_is_left_behind(
    bare_lab: Any, args: list[str], said: str
) -> None:
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
def test_a_missing_initial_model_opens_no_run(lab: Any, origin: str, said: str) -> None:
    result = lab("train", "--config", "config.yaml", "--init-from", origin)
    assert result.exit_code == 1
    assert said in result.stderr
    assert lab.tracker.find_experiment("lab") is None


def test_it_starts_from_another_runs_model_and_freezes_it(lab: Any) -> None:
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


def test_without_a_best_epoch_it_says_which_weights_were_tested(lab: Any) -> None:
    result = lab("train", "--config", "config.yaml", "--optimizer", "sgd", "--lr", "1e30")
    assert result.exit_code == 0
    assert "diverged, no val_accuracy in any epoch; test accuracy " in result.stdout
    assert "% with the last weights\n" in result.stdout


def test_a_missing_run_cannot_be_resumed(lab: Any) -> None:
    result = lab("train", "--resume", "nope")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no run 'nope' at" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_resumed_run_matches_an_undisturbed_one(lab: Any, number: int, code: int) -> None:
    process = lab.start("train", "--config", "config.yaml", "--epochs", "150")
    read_until(process, "epoch   3/150")
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
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


@pytest.mark.slow
def test_what_it_says_to_resume_with_loads_the_plug_ins(lab: Any) -> None:
    folder = lab.home / "my things"
    folder.mkdir()
    code = (
        "import lab, torch\n@lab.activation\ndef bowed(*, bow: float = 0.5): return torch.nn.LeakyReLU(bow)\n"
    )
    (folder / "bowed_things.py").write_text(code)
    config = (lab.home / "config.yaml").read_text()
    (folder / "bowed.yaml").write_text(f"{config}use: [bowed_things.py]\nactivation: bowed\nepochs: 150\n")
    process = lab.start("train", "--config", folder / "bowed.yaml")
    read_until(process, "epoch   3/150")
    process.send_signal(signal.SIGINT)
    again = process.communicate(timeout=120)[1].splitlines()[-1]
    try:
        assert "--use 'my things/bowed_things.py' --resume " in again
        result = lab(*shlex.split(again)[1:])
        assert result.exit_code == 0, result.stderr
    finally:
        kept._take_out("bowed_things")
    assert lab.runs("lab")["status"].tolist() == ["FINISHED"]
