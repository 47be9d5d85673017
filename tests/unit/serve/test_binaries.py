from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.errors import ResourceError
from lab.serve import binaries
from lab.serve.binaries import Binaries, account, find_binaries, found_binaries, newest_binaries, version_of


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Binaries]:
    """What counts as installed."""
    found: list[Binaries] = [Binaries(Path("/16"), 16), Binaries(Path("/18"), 18), Binaries(Path("/17"), 17)]
    monkeypatch.setattr(binaries, "found_binaries", lambda: found)
    return found


def data_of(version: str, folder: Path) -> Path:
    (folder / "PG_VERSION").write_text(f"{version}\n")
    return folder


def test_new_data_gets_the_newest(installed: list[Binaries], tmp_path: Path) -> None:
    assert version_of(tmp_path) is None
    assert find_binaries(tmp_path).major == 18
    assert newest_binaries().path("initdb") == "/18/initdb"


def test_data_keeps_its_version(installed: list[Binaries], tmp_path: Path) -> None:
    assert find_binaries(data_of("16", tmp_path)).major == 16


def test_data_of_a_version_that_is_missing(installed: list[Binaries], tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=r"belongs to PostgreSQL 15, but the installed versions are: 16, 18, 17\. Install"
    ):
        find_binaries(data_of("15", tmp_path))


def test_no_postgresql(installed: list[Binaries], tmp_path: Path) -> None:
    installed.clear()
    with pytest.raises(
        ResourceError, match=r"is not installed\. Install it with: pip install 'lab\[serve\]'"
    ):
        find_binaries(tmp_path)


def test_what_is_installed_is_found() -> None:
    found = found_binaries()
    assert found
    assert all(Path(each.path("initdb")).exists() for each in found)
    assert len({each.major for each in found}) == len(found)


def test_postgresql_never_runs_as_root() -> None:
    found = account()
    assert (found is None) == (os.geteuid() != 0)
    assert found is None or found.options["user"] != 0
