"""Folders that one of a test run's processes creates and the others reuse."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lab.tracking import follow

__all__ = ["copy_of", "made_once"]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` of this test run, which `make` filled in one of its processes.

    Who comes while it is made waits. It is for reading and, with `copy_of`, for copying: other tests see what is
    changed in it.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each process has its own folder inside the run's
    folder, done = base / "once" / name, base / "once" / f"{name}.done"
    folder.parent.mkdir(exist_ok=True)
    with done.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system releases it if the process is killed
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # half finished
            folder.mkdir()
            make(folder)
            for database in folder.rglob("*.db"):
                with closing(
                    sqlite3.connect(database, timeout=60)
                ) as connection:  # everything into the one file
                    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    assert not busy, f"{database} is in use: copies of it would lack something"
            done.touch()
    return folder


def copy_of(folder: Path, target: Path) -> None:
    """Copy what `made_once` returned to `target`, which may exist; the artifacts of its runs are those of the copy."""
    # a database's logs are empty, and disappear when the process that made it closes it: perhaps right now
    logs = shutil.ignore_patterns("*.db-wal", "*.db-shm")
    shutil.copytree(folder, target, ignore=logs, dirs_exist_ok=True)
    for database in target.rglob("mlflow.db"):
        follow(f"sqlite:///{database}", database.parent / "artifacts")
