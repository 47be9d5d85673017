from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from lab.cli import main


def test_before_anything_is_there(bare_lab: Any) -> None:
    assert bare_lab("status").stdout == "No studies yet: `lab sweep GRID` creates one\n"
    assert json.loads(bare_lab("status", "--format", "json").stdout) == []
    for command in ("status", "best"):
        result = bare_lab(command, "nope")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "There is no study 'nope'. There are no studies yet" in result.stderr
    assert not (bare_lab.home / ".lab").exists()


def test_a_finished_study(swept: Any) -> None:
    lab = swept
    assert "tiny: 3 complete; best val_accuracy 0." in lab("status").stdout
    status = json.loads(lab("status", "tiny", "--format", "json").stdout)
    assert (status["name"], status["states"], status["running"]) == ("tiny", {"complete": 3}, [])

    board = json.loads(lab("best", "tiny", "--format", "json").stdout)
    values = [row["best_value"] for row in board]
    assert values == sorted(values, reverse=True)
    assert status["best_value"] == values[0]
    rows = list(csv.DictReader(io.StringIO(lab("best", "tiny", "--format", "csv").stdout)))
    assert [row["run_id"] for row in rows] == [row["run_id"] for row in board]
    assert json.loads(lab("best", "tiny", "--each", "--format", "json").stdout) == board
    losses = json.loads(lab("best", "tiny", "--metric", "test_loss", "--top", "2", "--format", "json").stdout)
    assert len(losses) == 2
    assert losses[0]["test_loss"] <= losses[1]["test_loss"]

    text = lab("best", "tiny").stdout
    assert f"mlflow.set_tracking_uri('sqlite:///{lab.home}/.lab/mlflow.db')" in text
    assert f"runs:/{board[0]['run_id']}/model" in text
    for command in ("status", "best"):
        result = lab(command, "tinny")
        assert "There is no study 'tinny'. Did you mean 'tiny'?" in result.stderr
        assert result.exit_code == 1
    result = lab("best", "tiny", "--metric", "accurracy")
    assert "No trial of tiny has a metric 'accurracy'" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["status", "x"],
        ["best", "x"],
        ["plan", "tiny.yaml"],
        ["sweep", "tiny.yaml"],
        ["train", "--config", "config.yaml"],
    ],
)
def test_databases_that_are_none(bare_lab: Any, command: list[str]) -> None:
    (bare_lab.home / ".lab").mkdir()
    for name in ("optuna.db", "mlflow.db"):
        (bare_lab.home / ".lab" / name).write_bytes(b"this is not a database " * 500)
    result = bare_lab(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "file is not a database" in result.stderr
    assert result.stderr.count("Error: ") == 1


@pytest.mark.parametrize("command", [["sweep", "tiny.yaml"], ["train", "--config", "config.yaml"]])
def test_a_file_where_the_folder_should_be(bare_lab: Any, command: list[str]) -> None:
    (bare_lab.home / ".lab").write_text("")
    result = bare_lab(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{bare_lab.home}/.lab" in result.stderr
    assert result.stderr.count("Error: ") == 1


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write to")
@pytest.mark.parametrize("command", ["sweep", "train"])
def test_a_folder_that_cannot_be_written(
    bare_lab: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = (
        [bare_lab.home / "tiny.yaml"] if command == "sweep" else ["--config", bare_lab.home / "config.yaml"]
    )
    monkeypatch.chdir("/proc")
    result = bare_lab(command, *args)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("Error: ") == 1
    assert "/proc/.lab" in result.stderr


def test_a_store_that_does_not_exist(bare_lab: Any) -> None:
    result = bare_lab("train", "--config", "config.yaml", "--tracking-uri", "foo://bar")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Connecting failed at foo://bar: ")


def test_a_server_that_is_not_there_keeps_nothing_from_training(
    bare_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["lab.cli.train"], "_END_SECONDS", 0.1)  # `lab.cli.train` is the command
    monkeypatch.setattr("lab.tracking.journals.time.time", lambda: 2e9)  # so that all of it is old
    nowhere = ("--tracking-uri", "http://127.0.0.1:9")
    result = bare_lab("train", "--config", "config.yaml", "--epochs", "1", *nowhere)
    assert result.exit_code == 0, result.stderr
    assert "Connecting failed at http://127.0.0.1:9: " in result.stderr
    assert "Until it answers, everything logged is kept in .lab/journal" in result.stderr
    told = r"Not delivered to http://127.0.0.1:9: \d+ writes of 1 run\. .*`lab sync`.* delivers them"
    assert re.search(told, result.stderr)
    assert "run pending-" in result.stdout
    assert re.search(told, bare_lab("status", *nowhere).stdout)
    synced = bare_lab("sync", *nowhere)
    assert (synced.exit_code, synced.stdout) == (1, "")
    assert "Run `lab sync` again once it answers" in synced.stderr
    assert re.search(r"Left in .*journal: \d+ writes of 1 run\n", synced.stderr)
    other = bare_lab("sync")
    assert (other.exit_code, "Nothing is left to deliver to sqlite" in other.stdout) == (0, True)
    assert (
        "There is more to deliver to another store: lab sync --tracking-uri http://127.0.0.1:9"
        in other.stderr
    )


def test_help_teaches_by_example(bare_lab: Any) -> None:
    text = bare_lab("--help").stdout
    assert "..." not in text.partition("Commands:")[2]
    assert "lab sweep grids/quickstart.yaml" in text
    assert isinstance(main, click.Group)
    for name, command in main.commands.items():
        assert (command.short_help or "")[:40] in text
        page = bare_lab(name, "--help").stdout
        assert re.search(rf"Examples?:\n +lab {name}", page), name
    assert "--batch-size VALUE" in bare_lab("train", "--help").stdout


def test_the_version(bare_lab: Any) -> None:
    result = bare_lab("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"lab, version \S.*\n", result.stdout)


def test_a_smoke_run_stays_apart(lab: Any) -> None:
    assert lab("sweep", "tiny.yaml", "--workers", "1", "--set", "epochs=1").exit_code == 0
    planned = lab("submit", "tiny.yaml")  # the file as it is, not trained yet
    assert planned.exit_code == 0
    nothing = lab("best", "tiny").stdout
    assert "No trial of tiny with the settings of its newest file has started yet" in nothing
    left_out = "Not shown: 3 trials from earlier files or with other settings (epochs=1)"
    assert f"{left_out}; include them with: lab best tiny --all" in nothing
    rows = list(csv.DictReader(io.StringIO(lab("best", "tiny", "--all", "--format", "csv").stdout)))
    assert len(rows) == 3
    assert json.loads(lab("effects", "tiny", "--format", "json").stdout) == []
    swept = lab("sweep", "tiny.yaml", "--workers", "1").stdout
    assert "Not shown: 3 trials" in swept
    rows = list(csv.DictReader(io.StringIO(lab("best", "tiny", "--all", "--format", "csv").stdout)))
    assert sorted(row["epochs"] for row in rows) == ["1"] * 3 + ["2"] * 3
    result = lab("best", "tiny", "--format", "csv")
    board = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["epochs"] for row in board] == ["2"] * 3
    assert f"({board[0]['name']})" in lab("status", "tiny").stdout
    assert "Not shown: 3 trials" in result.stderr
    assert lab("effects", "tiny", "--all").stdout.count("epochs") == 1
