from __future__ import annotations

import errno
import json
import os
import socket
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from lab.errors import ConfigError, ResourceError
from lab.serve.home import Home, is_free, read_settings
from lab.serve.running import claimed, is_noted, note_stopped, running_in
from lab.server_file import ServerFile, read_server_file

LOOPBACK = "127.0.0.1"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / ".lab")
    home.create(passable=False)
    return home


def test_settings_are_made_once_and_kept(home: Home) -> None:
    made = read_settings(home, LOOPBACK)
    assert read_settings(home, LOOPBACK) == made
    assert stat.S_IMODE(home.settings.stat().st_mode) == 0o600
    assert len({made.password, made.owner_password, made.secret_key}) == 3
    assert is_free(LOOPBACK, made.mlflow_port)
    assert is_free(LOOPBACK, made.postgres_port)


def test_a_port_that_is_taken_is_replaced_and_the_other_stays(home: Home) -> None:
    settings = read_settings(home, LOOPBACK)
    assert settings.on_free_ports(LOOPBACK) == settings
    with closing(socket.create_server((LOOPBACK, 0))) as other:
        taken = replace(settings, mlflow_port=other.getsockname()[1])
        now = taken.on_free_ports(LOOPBACK)
    assert now.mlflow_port != taken.mlflow_port
    assert replace(now, mlflow_port=taken.mlflow_port) == taken


def test_new_passwords_are_not_made_for_old_data(home: Home) -> None:
    home.postgres.mkdir()
    with pytest.raises(
        ConfigError, match=r"settings\.json: cannot be read.*It has the passwords of .*restore it"
    ):
        read_settings(home, LOOPBACK)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".lab").write_text("a file")
    with pytest.raises(ResourceError, match=r"\.lab/server cannot be written: Not a directory"):
        Home(tmp_path / ".lab").create(passable=False)


def test_one_process_at_a_time_has_a_folder(home: Home) -> None:
    assert running_in(home) is None
    with claimed(home) as died:
        assert not died
        running = running_in(home)
        assert running is not None
        assert running.is_here
        with (
            pytest.raises(ResourceError, match=rf"already runs in {home.folder}: process {running.pid}$"),
            claimed(home),
        ):
            pass
    assert running_in(home) is None
    assert not is_noted(home)


def test_one_that_died_is_noticed(home: Home) -> None:
    with claimed(home):
        left = (home.server / "running.json").read_text()
    (home.server / "running.json").write_text(left)
    assert is_noted(home)
    assert running_in(home) is None
    with claimed(home) as died:
        assert died


def test_one_that_comes_and_dies_while_another_starts_is_noticed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = FileLock.acquire

    def first_another(lock: FileLock, *args: Any, **options: Any) -> Any:
        (home.server / "running.json").write_text(
            json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1})
        )
        return acquire(lock, *args, **options)

    monkeypatch.setattr(FileLock, "acquire", first_another)
    with claimed(home) as died:
        assert died  # so that what it has left is ended


def test_a_folder_that_cannot_be_locked(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lock: FileLock, *args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (
        pytest.raises(ResourceError, match=r"cannot be locked \(.*No locks available\): run `lab serve` in"),
        claimed(home),
    ):
        pass


def test_that_of_another_machine_is_left_alone(home: Home) -> None:
    file = home.server / "running.json"
    file.write_text(json.dumps({"host": "node7", "pid": 12}))
    running = running_in(home)
    assert running is not None
    assert not running.is_here
    with (
        pytest.raises(
            ResourceError, match=r"is served by process 12 on node7: use `lab serve --stop` there\. If"
        ),
        claimed(home),
    ):
        pass
    assert file.exists()


def test_a_stop_is_noted_in_the_server_file(home: Home) -> None:
    note_stopped(home)
    assert not home.server_file.exists()
    server = ServerFile("http://127.0.0.1:1", "postgresql://lab@127.0.0.1:2/studies", pid=3)
    server.write(home.server_file)
    note_stopped(home)
    assert read_server_file(home.server_file) == replace(server, pid=0)
