"""`lab` with its default stores in the test's own folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lab.cli import main
from lab.upkeep import doctor

Lab = Callable[..., Result]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every check take its time: a loaded machine is slow."""
    monkeypatch.setattr(doctor, "_STORE_SECONDS", 120.0)
    monkeypatch.setattr(doctor, "_MACHINE_SECONDS", 120.0)


@pytest.fixture
def lab() -> Lab:
    def run(*args: object) -> Result:
        # wide, so that no table cell wraps
        result = CliRunner(env={"COLUMNS": "300"}).invoke(main, [str(arg) for arg in args], prog_name="lab")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def examined(lab: Lab) -> Callable[..., dict[str, dict[str, str]]]:
    """The findings of `lab doctor`, by check."""

    def examine(*args: object) -> dict[str, dict[str, str]]:
        result = lab("doctor", "--format", "json", *args)
        found: list[dict[str, Any]] = json.loads(result.stdout)
        assert result.exit_code == any(finding["verdict"] == "failed" for finding in found)
        assert all(finding["mend"] for finding in found if finding["verdict"] != "ok")
        return {finding["check"]: finding for finding in found}

    return examine


@pytest.fixture
def home(tmp_path: Path, fresh_databases: Path) -> Path:
    """The folder `.lab` with fresh databases."""
    home = tmp_path / ".lab"
    home.mkdir()
    for file in fresh_databases.glob("*.db"):
        shutil.copy(file, home)
    return home
