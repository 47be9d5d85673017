"""Whose databases are one's own, and which code workers run from others'."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import plugins
from lab.engines import Stores
from lab.server_file import ServerFile

SERVED = "postgresql://lab@127.0.0.1:2/studies"
OTHERS = "postgresql://lab@db/studies"


@pytest.fixture
def server(tmp_path: Path) -> Path:
    file = tmp_path / "server.json"
    ServerFile("http://127.0.0.1:1", SERVED).write(file)
    return file


def test_a_database_of_ones_own(tmp_path: Path, server: Path) -> None:
    file = tmp_path / "optuna.db"
    stores = Stores(storage=f"sqlite:///{file}")
    assert stores.are_own  # it will be
    file.touch()
    assert stores.are_own
    assert stores.for_sweep() is stores
    assert Stores(storage=SERVED, server_file=server).are_own
    assert not Stores(storage=OTHERS).are_own
    assert not Stores(storage=OTHERS, server_file=server).are_own  # the server has only the tracking store


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else(tmp_path: Path, server: Path) -> None:
    file = tmp_path / "optuna.db"
    for each in (file, server):
        each.touch()
        os.chown(each, 12345, -1)
    assert not Stores(storage=f"sqlite:///{file}").are_own
    assert not Stores(storage=SERVED, server_file=server).are_own


def test_a_sweep_runs_only_its_own_code_from_databases_of_others() -> None:
    settings = Stores(storage=OTHERS).for_sweep().for_worker("mlp")
    loaded = tuple(
        kept["digest"] for kept in plugins.records(plugins.loaded())
    )  # other tests may have loaded some
    assert (settings.allow_code, settings.known_code) == (False, loaded)
