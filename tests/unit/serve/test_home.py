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
from lab.serve.home import Home, free_port, is_free, read_settings
from lab.serve.running import claimed, is_noted, note_stopped, running_in
from lab.serve.serving import _settled
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


@pytest.fixture
def two_ports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The only two ports that are looked at, so that a port that is not excluded is met."""
    ports = [free_port(LOOPBACK), 0]
    ports[1] = free_port(LOOPBACK, ports[0])
    monkeypatch.setattr("lab.serve.home._PORTS", ports)
    monkeypatch.setattr("random.SystemRandom.sample", lambda _, ports, count: list(ports))
    return ports


def test_both_services_never_have_the_same_port(home: Home, two_ports: list[int]) -> None:
    made = read_settings(home, LOOPBACK)
    assert [made.mlflow_port, made.postgres_port] == two_ports
    with closing(socket.create_server((LOOPBACK, 0))) as other:
        taken = other.getsockname()[1]
        for changed in (replace(made, mlflow_port=taken), replace(made, postgres_port=taken)):
            now = changed.on_free_ports(LOOPBACK)
            assert {now.mlflow_port, now.postgres_port} == set(two_ports)


def test_a_service_whose_port_the_other_is_given_moves_and_says_so(home: Home) -> None:
    made, said = read_settings(home, LOOPBACK), []
    first = _settled(home, LOOPBACK, made.postgres_port, None, said.append)
    assert first.mlflow_port == made.postgres_port != first.postgres_port
    second = _settled(home, LOOPBACK, None, first.mlflow_port, said.append)
    assert second.postgres_port == first.mlflow_port != second.mlflow_port
    assert read_settings(home, LOOPBACK) == second
    port = made.postgres_port
    assert [text.partition(" to ")[0] for text in said] == [
        f"Port {port} is taken, so PostgreSQL has moved",
        f"Port {port} is taken, so MLflow has moved",
    ]


def test_settings_of_an_earlier_version_with_one_port_for_both_are_mended(home: Home) -> None:
    made = read_settings(home, LOOPBACK)
    replace(made, postgres_port=made.mlflow_port).write(home.settings)
    now = _settled(home, LOOPBACK, None, None, lambda text: None)
    assert now.mlflow_port == made.mlflow_port != now.postgres_port


def test_one_port_given_for_both_is_an_error(home: Home) -> None:
    made = read_settings(home, LOOPBACK)
    with pytest.raises(
        ResourceError, match=r"^--port 24567 --postgres-port 24567: MLflow and PostgreSQL need a port each$"
    ):
        _settled(home, LOOPBACK, 24567, 24567, lambda text: None)
    assert read_settings(home, LOOPBACK) == made


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
