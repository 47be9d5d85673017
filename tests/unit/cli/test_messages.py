"""Where lab says that people find what was tracked."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cli.messages import browse


def test_in_a_container_links_lead_to_where_people_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert browse("http://mlflow:5000", "7").startswith("Browse it: http://mlflow:5000/#/experiments/7/")
    monkeypatch.setenv("LAB_PUBLIC_URL", "https://lab.example.org/")
    assert browse("http://mlflow:5000", "7").startswith("Browse it: https://lab.example.org/#/experiments/7/")


def test_a_run_has_a_page_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "/#/experiments/7/runs/3f2c?workflowType=machine_learning&workspace=default"
    assert browse("http://mlflow:5000", "7", "3f2c") == f"Browse it: http://mlflow:5000{page}"
    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path}/.lab/mlflow.db"
    server = "lab ui"
    assert browse(store, "7", "3f2c") == f"Browse it: {server}, then http://127.0.0.1:5000{page}"
    assert browse(store) == f"Browse it: {server}"
    (tmp_path / "Makefile").touch()
    assert browse(store, "7", "3f2c") == f"Browse it: make ui, then http://127.0.0.1:5000{page}"
