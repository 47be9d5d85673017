from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from lab.engines import Stores
from lab.engines.slurm import job as slurm_job
from lab.identity import ProcessName, process_name
from lab.stopping import Stop

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGCONT, signal.SIGINT)
SOON = 10.0


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def left(monkeypatch: pytest.MonkeyPatch, seconds: float | None) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "" if seconds is None else str(int(time.time() + seconds)))


@pytest.mark.usefixtures("handlers")
def test_sigterm_asks_for_the_stop_and_sigusr2_warns() -> None:
    stop, warning = slurm_job.stop_on_signals()
    os.kill(os.getpid(), signal.SIGCONT)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert warning.wait(SOON)
    assert not stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.wait(SOON)


def test_the_wall_time_is_slurms_less_the_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    left(monkeypatch, 1000)
    assert slurm_job.wall_time(None, 90) == pytest.approx(time.time() + 910, abs=3)
    left(monkeypatch, 100)
    assert slurm_job.wall_time(None, 90) == pytest.approx(time.time() + 75, abs=3)


def test_without_slurm_it_is_what_was_asked_for() -> None:
    assert slurm_job.wall_time(600, 60) == pytest.approx(time.time() + 540, abs=3)
    assert slurm_job.wall_time(None, 60) is None


def test_the_time_comes() -> None:
    stop = Stop()
    slurm_job.watch(stop, Stop(), time.time() + 0.1, 15)
    assert stop.wait(SOON)


def test_a_worker_stops_when_who_started_it_is_gone() -> None:
    stop = Stop()
    mine = ProcessName.parse(process_name())
    assert mine is not None
    slurm_job.watch(stop, Stop(), None, 15, mine._replace(created="1.00"))
    assert stop.wait(SOON)


def test_a_warning_long_before_the_limit_is_one_of_preemption(monkeypatch: pytest.MonkeyPatch) -> None:
    left(monkeypatch, 5000)
    stop, warning = Stop(), Stop()
    slurm_job.watch(stop, warning, time.time() + 4000, 15)
    assert not stop.wait(0.1)
    warning.ask()
    assert stop.wait(SOON)


def test_a_warning_that_comes_early_wastes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    left(monkeypatch, 60)
    now = time.time()
    assert slurm_job._end_after_warning(None, 15) == pytest.approx(now + 45, abs=3)
    left(monkeypatch, 5)
    assert slurm_job._end_after_warning(None, 15) < now


def test_plain_values(tmp_path: Path) -> None:
    stores = Stores(checkpoint_dir=tmp_path, server_file=tmp_path / "server.json")
    for what in (stores, stores.for_worker("tiny")):
        values = slurm_job.plain(asdict(what))
        assert values["checkpoint_dir"] == str(tmp_path)
        each = [
            item for value in values.values() for item in (value if isinstance(value, tuple) else (value,))
        ]
        assert {type(item) for item in each} <= {str, bool, type(None)}
        assert type(what)(**slurm_job.from_plain(values)) == what
