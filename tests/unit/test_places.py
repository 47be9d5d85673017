"""A database knows where it was last opened, so that a move, a copy and another name for it can be told apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.errors import ConfigError
from lab.places import Arrival, absolute_address, absolute_path, arrival, mark, sqlite_address


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database that was opened in `tmp_path/one/.lab`."""
    file = tmp_path / "one" / ".lab" / "mlflow.db"
    file.parent.mkdir(parents=True)
    file.touch()
    mark(file)
    return file


def test_what_stays_has_not_arrived(database: Path) -> None:
    assert arrival(database) is None
    assert arrival(database.parent / ".." / ".lab" / "mlflow.db") is None
    assert arrival(database.with_name("other.db")) is None


def test_a_moved_folder_is_moved(database: Path, tmp_path: Path) -> None:
    (tmp_path / "one").rename(tmp_path / "two")
    came = arrival(tmp_path / "two/.lab/mlflow.db")
    assert came == Arrival(database, tmp_path / "two/.lab/mlflow.db", copied=False)
    assert (came.origin, came.home) == (tmp_path / "one", tmp_path / "two")
    mark(came.new)
    assert arrival(came.new) is None


def test_a_copied_folder_is_a_copy_and_then_another_one(database: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    new = tmp_path / "two/.lab/mlflow.db"
    came = arrival(new)
    assert came is not None
    assert came.copied
    mark(new, copied=True)
    assert arrival(new) is None
    assert arrival(database) is None
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "two").rename(tmp_path / "one")
    came = arrival(database)
    assert came is not None
    assert not came.copied


def test_a_new_folder_in_the_old_place_does_not_make_a_moved_one_a_copy(
    database: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").rename(tmp_path / "two")
    database.parent.mkdir(parents=True)
    database.touch()
    mark(database)
    came = arrival(tmp_path / "two/.lab/mlflow.db")
    assert came is not None
    assert not came.copied


def test_another_way_to_the_same_folder_is_no_other_place(database: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert arrival(tmp_path / "link/.lab/mlflow.db") is None
    (tmp_path / "hard").mkdir()  # like a bind mount: the same file, without a link to resolve
    (tmp_path / "hard/mlflow.db").hardlink_to(database)
    shutil.copy(f"{database}.place", tmp_path / "hard")
    assert arrival(tmp_path / "hard/mlflow.db") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": 1}', "\x00"])
def test_a_broken_mark_is_none(database: Path, content: str) -> None:
    Path(f"{database}.place").write_text(content)
    assert arrival(database) is None
    mark(database)
    assert arrival(database) is None


def test_only_what_came_along_follows(tmp_path: Path) -> None:
    old, new = tmp_path / "one/.lab/mlflow.db", tmp_path / "two/.lab/mlflow.db"
    came = Arrival(old, new, copied=True)
    (tmp_path / "two" / "mlruns").mkdir(parents=True)
    follow = {
        "one/.lab/artifacts/a": "two/.lab/artifacts/a",  # next to the database
        "one/mlruns/0": "two/mlruns/0",  # exists there
        "one/elsewhere/a": None,
        "one more/.lab/artifacts": None,
        "two/.lab/artifacts/a": None,
    }
    for before, after in follow.items():
        assert came.follow(tmp_path / before) == (tmp_path / after if after else None)
    assert came.follow(tmp_path / "one/out/a", tmp_path / "two/out") == tmp_path / "two/out/a"


def test_a_copy_inside_of_the_original_is_followed_once(tmp_path: Path) -> None:
    came = Arrival(tmp_path / "mlflow.db", tmp_path / "copy" / "mlflow.db", copied=True)
    assert came.follow(tmp_path / "mlruns/0", tmp_path / "copy/mlruns") == tmp_path / "copy/mlruns/0"
    assert came.follow(tmp_path / "copy/mlruns/0", tmp_path / "copy/mlruns") is None


def test_addresses_are_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STORES", "/stores")
    monkeypatch.chdir(tmp_path)
    given = {
        "sqlite:///m.db": f"sqlite:///{tmp_path}/m.db",
        "sqlite:///./a/../m.db?timeout=3": f"sqlite:///{tmp_path}/m.db?timeout=3",
        "sqlite:////data/m.db": "sqlite:////data/m.db",
        "sqlite:///~/m.db": f"sqlite:///{tmp_path}/home/m.db",
        "sqlite:///$HOME/m.db": f"sqlite:///{tmp_path}/home/m.db",
        "sqlite+pysqlite:///${STORES}/m.db": "sqlite+pysqlite:////stores/m.db",
    }
    assert {address: absolute_address(address) for address in given} == given
    for other in (
        "memory",
        "http://host:5000",
        "http://[::1]",
        "databricks://me:models",
        "postgresql://me:~$x@host/lab",
        "sqlite://",
        "sqlite:///:memory:",
    ):
        assert absolute_address(other) == other
    assert absolute_path(Path("a")) == tmp_path / "a"
    assert absolute_path(Path("~/a")) == tmp_path / "home/a"


@pytest.mark.parametrize(
    "address", ["http://host:x1", "postgresql://me@host:x1/lab", "postgresql://me:a/b:c@[::1]:x1/lab"]
)
def test_a_port_is_a_number(address: str) -> None:
    assert absolute_address(address.replace("x1", "1")) == address.replace("x1", "1")
    with pytest.raises(ConfigError, match=r"the port of an address is a number, .* but got 'x1'"):
        absolute_address(address)


@pytest.mark.parametrize("address", ["http://[::1", "http://[::1/a", "postgresql://me:s3[cret@host/lab"])
def test_brackets_enclose_an_ipv6_address(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^the brackets in an address must enclose .* %5D$"):
        absolute_address(address)


def test_a_folder_with_a_question_mark_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "which?"
    home.mkdir()
    monkeypatch.chdir(home)
    with pytest.raises(ConfigError, match=r"/which\?/m\.db contains a \?, .* Rename that folder$"):
        absolute_address("sqlite:///m.db")
    with pytest.raises(ConfigError, match=r"/which\?/m\.db contains a \?"):
        sqlite_address(home / "m.db")
    assert sqlite_address(tmp_path / "m.db") == f"sqlite:///{tmp_path}/m.db"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/m.db", "$NO_SUCH_VARIABLE/m.db"])
def test_an_unknown_home_or_variable_makes_no_folder(path: str) -> None:
    with pytest.raises(ConfigError, match=r"is unknown here; write the full path"):
        absolute_address(f"sqlite:///{path}")
