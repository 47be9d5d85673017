"""A new database gets the tables that were made for an earlier one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lab.data.cache import recall, remember
from lab.tracking import connect, prepare

_KIND = "tables"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The first database on a machine, which MLflow has migrated; its tables were remembered."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_CACHE_DIR", str(folder / "cache"))
        yield _prepared(folder / "first.db")


@pytest.fixture
def note(first: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the remembered tables, for a test on the same machine."""
    monkeypatch.setenv("LAB_CACHE_DIR", str(first.parent / "cache"))
    (found,) = (first.parent / "cache" / _KIND).glob("mlflow-*.json")
    return found


def _prepared(database: Path) -> Path:
    prepare(f"sqlite:///{database}")
    return database


def _names(database: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(database)) as opened:
        return set(opened.execute("SELECT type, name FROM sqlite_master"))


def test_the_second_database_has_the_tables_of_the_first(first: Path, note: Path, tmp_path: Path) -> None:
    before = note.stat().st_mtime_ns
    second = _prepared(tmp_path / "second.db")
    assert _names(second) == _names(first)
    assert second.stat().st_mode == first.stat().st_mode
    assert note.stat().st_mtime_ns == before
    tracker = connect(f"sqlite:///{second}", tmp_path / "artifacts")
    assert tracker.experiment("one") == "1"
    left = {file.name.removeprefix("second.db") for file in tmp_path.glob("*second.db*")}
    assert left <= {"", "-wal", "-shm", ".lock", ".place"}


def test_the_remembered_tables_are_the_ones_used(note: Path, tmp_path: Path) -> None:
    script = recall(_KIND, note.stem)
    remember(_KIND, note.stem, f"{script}\nCREATE TABLE remembered (id INTEGER);")
    assert ("table", "remembered") in _names(_prepared(tmp_path / "second.db"))
    remember(_KIND, note.stem, script)


def test_mlflow_makes_the_tables_where_those_remembered_are_no_good(
    first: Path, note: Path, tmp_path: Path
) -> None:
    script = recall(_KIND, note.stem)
    remember(_KIND, note.stem, "CREATE TABLES;")
    assert _names(_prepared(tmp_path / "second.db")) == _names(first)
    assert len(recall(_KIND, note.stem)) == len(script)
