"""The name of a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from lab.identity import process_name


def test_a_process_keeps_its_name_if_the_host_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = process_name()
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert process_name() == before


def test_a_fork_has_a_name_of_its_own() -> None:
    code = """
import os
from lab.identity import process_name
mine = process_name()
if os.fork():
    _, status = os.wait()
    raise SystemExit(os.waitstatus_to_exitcode(status))
os._exit(process_name() == mine or int(process_name().split(":")[1]) != os.getpid())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_says_which_process() -> None:
    host, pid, *_ = process_name().split(":")
    assert (host, pid) == (socket.gethostname(), str(os.getpid()))
