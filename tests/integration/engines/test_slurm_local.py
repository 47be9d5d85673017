"""Jobs of submitit's local executor: what Slurm's jobs run, without Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import psutil
import pytest

from lab.config import Grid
from lab.engines import Stores, submit, sweep
from lab.engines.devices import Device
from lab.engines.launcher import Exited
from lab.engines.node import Origin
from lab.engines.seats import Seat
from lab.engines.slurm import SlurmLauncher
from lab.engines.slurm.detached import submit_detached
from lab.study import find_queue

CPU = Seat(Device("cpu"), Fraction(1, 2))
PATIENCE = 120  # seconds; a loaded machine is slow

MakeGrid = Callable[..., Grid]
Make = Callable[..., SlurmLauncher]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[SlurmLauncher] = []

    def make(**options: object) -> SlurmLauncher:
        made.append(SlurmLauncher(Path(".lab/slurm"), 1, options, Origin.here(), cluster="local"))
        return made[-1]

    yield make
    for launcher in made:
        launcher.kill()


def exit_of(launcher: SlurmLauncher) -> Exited:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for _, event in launcher.listen(0.2):
            if isinstance(event, Exited):
                return event
    raise AssertionError("nothing was heard")


@pytest.mark.slow
def test_a_sweep_leaves_no_files_of_jobs_behind(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    result = sweep(make_grid(), stores, launcher=make(), workers=1)
    assert result.states == {"complete": 3}
    assert not Path(".lab/slurm").exists()


def test_a_job_that_fails_before_its_worker_begins_is_told_with_its_log(make: Make, stores: Stores) -> None:
    launcher = make(python="/nosuch/python")
    launcher.start(stores.for_worker("tiny"), CPU)
    exited = exit_of(launcher)
    assert exited.code > 0
    assert "Process" in exited.error
    assert not launcher.pending()


def test_a_python_without_submitit(make: Make, stores: Stores) -> None:
    launcher = make(python=f"{sys.executable} -S -I")
    launcher.start(stores.for_worker("tiny"), CPU)
    exited = exit_of(launcher)
    assert exited.code > 0
    assert "lacks a module: let `python` be" in exited.error
    assert "No module named 'submitit'" in exited.error
    (log,) = Path(".lab/slurm").rglob("*.out")
    assert str(log) in exited.error
    assert not list(Path(".lab/slurm").rglob("*.pkl"))


def test_what_was_not_submitted_yet_is_stopped_at_once(make: Make, stores: Stores) -> None:
    launcher = make()
    worker = launcher.start(stores.for_worker("tiny"), CPU)
    assert launcher.pending() == [worker]
    launcher.stop(worker)
    assert list(launcher.listen(0.0)) == [(worker, Exited(0))]
    assert len(launcher) == 0


@pytest.mark.slow
def test_workers_end_with_who_started_them(make_grid: MakeGrid, stores: Stores) -> None:
    submit(make_grid(epochs=100_000), stores)
    script = """
import sys
from fractions import Fraction
from pathlib import Path
from lab.engines import Stores
from lab.engines.devices import Device
from lab.engines.node import Origin
from lab.engines.seats import Seat
from lab.engines.slurm import SlurmLauncher
from lab.study import EpochEnded
launcher = SlurmLauncher(Path(".lab/slurm"), 1, {}, Origin.here(), cluster="local")
stores = Stores(storage=sys.argv[1], tracking_uri=sys.argv[2])
launcher.start(stores.for_worker("tiny"), Seat(Device("cpu"), Fraction(1)))
while True:
    for _, event in launcher.listen(0.5):
        if isinstance(event, EpochEnded):
            print("trains", flush=True)
"""
    command = [sys.executable, "-c", script, stores.storage, stores.tracking_uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "trains\n"
        family = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs(family, PATIENCE)
    assert gone
    assert not alive
    queue = find_queue(stores.storage, "tiny")
    assert queue is not None
    assert [trial.state.name for trial in queue.trials()] == ["WAITING"] * 3


@pytest.mark.slow
def test_a_detached_job_trains_and_concludes(make_grid: MakeGrid, stores: Stores) -> None:
    submit(make_grid(), stores)
    (job,) = submit_detached(Path(".lab/slurm"), 1, {}, Origin.here(), stores, ["tiny"], cluster="local")
    family = [psutil.Process(int(job))]
    queue = find_queue(stores.storage, "tiny")
    assert queue is not None
    end = time.monotonic() + PATIENCE
    try:
        while not queue.record().concluded:
            assert time.monotonic() < end
            time.sleep(0.5)
        family += family[0].children(recursive=True)
        family[0].send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, PATIENCE)
        assert not alive
    finally:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    assert [trial.state.name for trial in queue.trials()] == ["COMPLETE"] * 3
    assert not list(Path(".lab/slurm").rglob("*.pkl"))
