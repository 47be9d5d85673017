"""What keeps a server from starting, and what does not."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from lab import serve
from lab.errors import ConfigError, ResourceError
from lab.serve.home import Home
from lab.serve.leftovers import end_leftovers
from lab.server_file import ServerFile
from lab.stopping import Stop
from tests.integration.serve.conftest import Serving


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_a_folder_that_postgresqls_account_cannot_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ResourceError, match=r"cannot enter .*\. Run `lab serve` as another user, or make"):
        serve.serve(tmp_path / ".lab", stop=Stop())
    assert serve.status(tmp_path / ".lab").process == ""


def test_a_port_that_is_taken(serving: Serving) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            ResourceError, match=f"--port {port}: another program uses that port of 127.0.0.1"
        ):
            serve.serve(serving.home.folder, mlflow_port=port, stop=Stop())


def test_a_stop_that_was_asked_for_before_it_answers(serving: Serving) -> None:
    stop, said = Stop(), []
    stop.ask()
    serve.serve(serving.home.folder, stop=stop, say=said.append)
    assert [text.partition(";")[0] for text in said] == ["Starting PostgreSQL 18 and MLflow"]
    assert not serving.home.server_file.exists()
    assert not serve.stop(serving.home.folder)


def test_nothing_to_upgrade(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="has no server yet; `lab serve` makes one"):
        serve.upgrade(tmp_path / ".lab")


def test_a_file_with_a_process_number_that_another_program_has_now_is_removed(tmp_path: Path) -> None:
    home = Home(tmp_path / ".lab")
    home.create(passable=False)
    home.postgres.mkdir()
    file = home.postgres / "postmaster.pid"
    file.write_text(f"{os.getpid()}\n{home.postgres}\n")
    assert not end_leftovers(home)
    assert not file.exists()


def test_one_of_another_machine_is_not_stopped(tmp_path: Path) -> None:
    home = Home(tmp_path / ".lab")
    home.create(passable=False)
    (home.server / "running.json").write_text('{"host": "node7", "pid": 12}')
    with pytest.raises(
        ResourceError, match="the server runs on node7, process 12: use `lab serve --stop` there"
    ):
        serve.stop(home.folder)


def test_the_file_of_another_server_is_kept(serving: Serving) -> None:
    serving.home.folder.mkdir()
    other = ServerFile("http://login1:5000", "postgresql://lab@login1:5432/studies", host="login1")
    other.write(serving.home.server_file)
    with pytest.raises(
        ConfigError, match=r"server\.json names another server; move it away to start one here"
    ):
        serve.serve(serving.home.folder, stop=Stop())
    assert serving.server == other
