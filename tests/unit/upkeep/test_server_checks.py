from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from lab.server_file import ServerFile
from lab.upkeep.server_checks import check_server
from tests.servers import dead_port


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.json"


def test_one_that_answers(file: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        server = ServerFile(f"http://{address}", f"postgresql://lab@{address}/studies", host="login1", pid=7)
        server.write(file)
        (finding,) = check_server(file)
        assert finding.verdict == "ok"
        assert finding.found == f"`lab serve` answers: process 7 on login1, from {file}"
        file.chmod(0o640)
        _, finding = check_server(file)
    assert finding.verdict == "warning"
    assert finding.found == f"{file} has passwords, and other users of this machine can read it"
    assert finding.mend == f"chmod 600 {file}"


def test_one_that_does_not(file: Path) -> None:
    address = f"127.0.0.1:{dead_port()}"
    server = ServerFile(f"http://{address}", f"postgresql://lab@{address}/studies", host=socket.gethostname())
    server.write(file)
    (finding,) = check_server(file)
    assert finding.verdict == "failed"
    assert finding.found == f"the server that {file} names is not running"
    assert finding.mend == "start it with `lab serve`"


def test_a_file_that_cannot_be_read(file: Path) -> None:
    file.write_text("{")
    (finding,) = check_server(file)
    assert finding.verdict == "failed"
    assert "is not a file that `lab serve` writes" in finding.found
