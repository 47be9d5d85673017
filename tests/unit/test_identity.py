"""The names of processes, and whether they are known to be dead."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import psutil
import pytest

from lab import identity
from lab.identity import ProcessName, process_name

OURS = ProcessName.parse(process_name()) or ProcessName("", 0, "")
ON_LINUX = pytest.mark.skipif(not OURS.system, reason="this system does not tell its boots apart")


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


@ON_LINUX
def test_another_process_with_the_same_id_that_began_a_moment_later() -> None:
    assert OURS._replace(created=str(int(OURS.created) - 1)).is_dead()


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the clock forward: Linux then says that it was booted that much later."""
    booted = psutil.boot_time()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: booted + seconds)


@ON_LINUX
@pytest.mark.parametrize("seconds", [-3600, 2, 3600])
def test_who_lives_goes_on_living_when_the_clock_is_set(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        other = ProcessName.parse(process.stdout.readline().decode().strip())
        assert other is not None
        set_clock(monkeypatch, seconds)
        assert not other.is_dead()
        assert not OURS.is_dead()
        process.kill()
        process.wait()
        assert other.is_dead()


NAMED = """
from lab.identity import process_name
print(process_name(), flush=True)
input()
"""


@ON_LINUX
def test_a_name_given_after_the_clock_was_set_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, 3600)
    identity._process_name.cache_clear()  # as if it were asked for its name for the first time
    assert process_name() == str(OURS)


@ON_LINUX
@pytest.mark.parametrize("system", ["", OURS.system])
def test_names_of_earlier_versions_outlive_a_small_step_of_the_clock(
    monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    created = f"{psutil.Process().create_time():.2f}"
    old = ProcessName.parse(str(OURS._replace(created=created, system=system)))
    assert old is not None
    assert not old.is_dead()
    set_clock(monkeypatch, 2)
    assert not old.is_dead()
    set_clock(monkeypatch, 3600)  # nothing tells a step this large from another process
    assert old.is_dead()


def test_where_the_system_does_not_tell_the_ticks_the_clock_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "system", lambda: "")
    identity._process_name.cache_clear()
    name = process_name()
    identity._process_name.cache_clear()
    assert re.fullmatch(r".+:\d+:\d+\.\d\d", name)
    parsed = ProcessName.parse(name)
    assert parsed is not None
    assert not parsed.is_dead()


def test_an_id_that_no_process_has() -> None:
    free = next(pid for pid in range(4_000_000, 1, -1) if not psutil.pid_exists(pid))
    assert OURS._replace(pid=free).is_dead()


@ON_LINUX
def test_a_machine_or_container_with_the_same_host_name_is_another_one() -> None:
    assert not OURS._replace(created="1.00", system="0123456789ab").is_dead()


def test_names_of_earlier_versions_are_judged_by_the_host_alone() -> None:
    old = ProcessName.parse(f"{OURS.host}:{OURS.pid}:1.00")
    assert old == OURS._replace(created="1.00", system="")
    assert old.is_dead()
    assert not old._replace(host="another").is_dead()


def test_earlier_versions_leave_new_names_to_the_heartbeat() -> None:
    first = r"(?P<host>.+):(?P<pid>\d{1,9}):(?P<created>\d+\.\d\d)"
    for earlier in (first, first + r"(:(?P<system>[0-9a-f]{12}))?"):
        assert not OURS.system or re.fullmatch(earlier, process_name()) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "host",
        "host:1",
        "host:1:1",
        "host:1:1:",
        "host:x:1.00",
        "host:1:1.00:xyz",
        "host:1:1.00:0123456789abc",
    ],
)
def test_malformed_names(name: str) -> None:
    assert ProcessName.parse(name) is None
