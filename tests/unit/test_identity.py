"""The names of processes, and whether they are known to be dead."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import psutil
import pytest

from lab.identity import ProcessName, process_name

OURS = ProcessName.parse(process_name()) or ProcessName("", 0, "")


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


def test_this_process_lives_and_its_name_can_be_read() -> None:
    assert str(OURS) == process_name()
    assert (OURS.host, OURS.pid) == (socket.gethostname(), os.getpid())
    assert not OURS.is_dead()


def test_another_process_with_the_same_id_has_exited() -> None:
    assert OURS._replace(created="1.00").is_dead()


def test_an_id_that_no_process_has() -> None:
    free = next(pid for pid in range(4_000_000, 1, -1) if not psutil.pid_exists(pid))
    assert OURS._replace(pid=free).is_dead()


@pytest.mark.skipif(not OURS.system, reason="this system does not tell its boots apart")
def test_a_machine_or_container_with_the_same_host_name_is_another_one() -> None:
    assert not OURS._replace(created="1.00", system="0123456789ab").is_dead()


def test_names_of_earlier_versions_are_judged_by_the_host_alone() -> None:
    old = ProcessName.parse(f"{OURS.host}:{OURS.pid}:1.00")
    assert old == OURS._replace(created="1.00", system="")
    assert old.is_dead()
    assert not old._replace(host="another").is_dead()


def test_earlier_versions_leave_new_names_to_the_heartbeat() -> None:
    earlier = re.compile(r"(?P<host>.+):(?P<pid>\d{1,9}):(?P<created>\d+\.\d\d)")
    assert not OURS.system or earlier.fullmatch(process_name()) is None


@pytest.mark.parametrize(
    "name", ["", "host", "host:1", "host:x:1.00", "host:1:1.00:xyz", "host:1:1.00:0123456789abc"]
)
def test_malformed_names(name: str) -> None:
    assert ProcessName.parse(name) is None
