"""`lab` itself: help, version, and stores that cannot be used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from lab.cli import main


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
def test_files_that_are_not_databases(bare_lab: Any, command: list[str]) -> None:
    (bare_lab.home / ".lab").mkdir()
    for name in ("optuna.db", "mlflow.db"):
        (bare_lab.home / ".lab" / name).write_bytes(b"this is not a database " * 500)
    result = bare_lab(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "file is not a database" in result.stderr
    assert result.stderr.count("Error: ") == 1


@pytest.mark.parametrize("command", [["sweep", "tiny.yaml"], ["train", "--config", "config.yaml"]])
def test_a_file_in_place_of_the_folder(bare_lab: Any, command: list[str]) -> None:
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_to_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "lab", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == (
        "Error: The output cannot be written: No space left on device. Free some space, and run the command again\n"
    )


def test_a_store_that_does_not_exist(bare_lab: Any) -> None:
    result = bare_lab("train", "--config", "config.yaml", "--tracking-uri", "foo://bar")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Connecting failed at foo://bar: ")


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
    assert "\n\nOptions:\n  --from RATE" in bare_lab("find-lr", "--help").stdout


def test_the_version(bare_lab: Any) -> None:
    result = bare_lab("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"lab, version \S.*\n", result.stdout)
