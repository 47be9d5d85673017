from __future__ import annotations

from pathlib import Path

import pytest

from lab.engines.links import Link, link, public_address


def test_an_address_shows_no_password() -> None:
    assert public_address("http://me:t0p-s3cret@host:5000") == "http://me:***@host:5000"


def test_the_address_for_people_can_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PUBLIC_URL", "https://lab.example.org")
    assert public_address("http://mlflow:5000") == "https://lab.example.org"
    assert link("http://mlflow:5000").url.startswith("https://lab.example.org/#/experiments?")


def test_a_database_needs_a_server_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = "sqlite:////srv/my lab/mlflow.db"
    command = f"lab ui --tracking-uri '{store}'"
    assert link(store) == Link(command, "")
    assert link(store, "7").command == command
    assert link(store, "7").url.startswith("http://127.0.0.1:5000/#/experiments/7/runs?")
    own = f"sqlite:///{tmp_path}/.lab/mlflow.db"
    assert link(own).command == "lab ui"
    (tmp_path / "Makefile").touch()
    assert link(store, "7").command == command  # `make ui` serves the store of this folder only
    assert link(own).command == "make ui"
