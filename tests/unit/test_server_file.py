from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import server_file
from lab.errors import ConfigError, ResourceError
from lab.server_file import ServerFile, check_answers, read_server_file, write_private
from tests.servers import dead_port

FILE = Path(".lab/server.json")


@pytest.fixture
def server() -> Iterator[ServerFile]:
    """One whose PostgreSQL accepts connections, and whose MLflow does not."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        yield ServerFile(
            f"http://127.0.0.1:{dead_port()}",
            f"postgresql://lab@127.0.0.1:{port}/studies",
            "lab",
            "secret",
            socket.gethostname(),
        )


def test_a_full_disk_is_told_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fdopen = os.fdopen

    def full(descriptor: int, *args: Any, **options: Any) -> Any:
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
        return fdopen(descriptor, *args, **options)

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*server\.json'"):
        write_private(tmp_path / "server.json", "{}")


def test_what_is_written_is_read_and_only_its_owner_may(server: ServerFile, tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    file.write_text("an older one, for everybody")
    server.write(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_server_file(file) == server
    assert [each.name for each in tmp_path.iterdir()] == ["server.json"]


def test_what_a_newer_version_adds_is_ignored(server: ServerFile, tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    server.write(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"certificate": "x"}))
    assert read_server_file(file) == server


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "there is no such server file; `lab serve` writes one"),
        ("{", "is not a file that `lab serve` writes: Expecting property name"),
        ("[]", "is not a file that `lab serve` writes"),
        ("{}", "is not a file that `lab serve` writes: .* missing 2 required"),
    ],
)
def test_another_file_is_an_error(text: str | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=f"server.json: {why}"):
        read_server_file(file)


def test_one_that_was_stopped(server: ServerFile) -> None:
    with pytest.raises(
        ResourceError, match=r"\.lab/server\.json names is not running: start it with `lab serve`$"
    ):
        check_answers(FILE, server)
    with pytest.raises(ResourceError, match=r"is not running: start it with `lab serve` on node7$"):
        check_answers(FILE, replace(server, host="node7"))


def test_one_that_only_another_machine_reaches(server: ServerFile) -> None:
    elsewhere = replace(server, host="node7", pid=1)
    with pytest.raises(
        ResourceError, match=r"answers only there: start it again with `lab serve --host node7`"
    ):
        check_answers(FILE, elsewhere)


def test_one_that_is_being_restarted_is_given_time(
    server: ServerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_file, "_RESTART_SECONDS", 0.3)
    running = replace(server, pid=os.getpid())
    with pytest.raises(
        ResourceError, match=rf"does not answer at http://\S+, although process {os.getpid()} runs"
    ):
        check_answers(FILE, running)
    check_answers(FILE, replace(running, tracking_uri=running.storage))
