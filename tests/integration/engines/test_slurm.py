"""Sweeps in jobs of a real Slurm, with partitions `batch`, whose jobs `urgent` takes the place of."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.config import Grid, parse_grid
from lab.engines import Progress, Stores, SweepResult, submit, sweep
from lab.engines.node import Origin
from lab.engines.slurm import SlurmLauncher
from lab.engines.slurm.detached import submit_detached
from lab.engines.slurm.jobs import SlurmJobs
from lab.engines.slurm.queue import jobs
from lab.errors import LabError
from lab.study import TrialQueue, find_queue
from lab.tracking import connect
from lab.tracking.tags import Tag

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

PATIENCE = 400  # seconds; a loaded machine is slow
FEW = 5  # epochs of the cell that waits until one of the others is done
GRID = """
name: tiny
base: {{dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 256, patience: none}}
grid:
  cell:
    first: {{lr: 0.01, epochs: {epochs}}}
    second: {{lr: 0.02, epochs: {epochs}}}
    last: {{lr: 0.03, epochs: {last}}}
"""

MakeGrid = Callable[..., Grid]
Make = Callable[..., SlurmLauncher]


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def mine() -> list[str]:
    """Return the ids of this user's jobs of lab that have not ended."""
    listed = run("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %j")
    return [line.split()[0] for line in listed.splitlines() if " lab-" in line]


def restarts(job: str) -> int:
    """Return how often Slurm has requeued a job."""
    found = re.search(r"\bRestarts=(\d+)", run("scontrol", "--oneliner", "show", "job", job))
    assert found is not None
    return int(found[1])


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, jobs()
        time.sleep(0.5)


@pytest.fixture(scope="module", autouse=True)
def _slurm() -> None:
    if shutil.which("sinfo") is None:
        pytest.skip("Slurm is not installed")
    asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=60)
    if asked.returncode:
        pytest.skip(f"no Slurm answers: {asked.stderr.strip()}")


@pytest.fixture
def make_grid() -> MakeGrid:
    """Two cells that are trained while something happens to them, and a third."""

    def make(epochs: int = 2, last: int = FEW) -> Grid:
        return parse_grid(GRID.format(epochs=epochs, last=last), "tiny.yaml")

    return make


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[SlurmLauncher] = []

    def make(**options: object) -> SlurmLauncher:
        made.append(SlurmLauncher(Path(".lab/slurm"), 2, options, Origin.here()))
        return made[-1]

    yield make
    for launcher in made:
        launcher.kill()
    if left := mine():
        run("scancel", *left)
        until(lambda: not mine())


class Once:
    """Does something once, as soon as trials of this sweep train."""

    def __init__(self, launcher: SlurmLauncher, act: Callable[[], object], epoch: int = 5) -> None:
        self.notes: list[str] = []
        self._launcher = launcher
        self._act = act
        self._epoch = epoch
        self.done = False

    def __call__(self, progress: Progress) -> None:
        for note in self._launcher.notes():
            if note not in self.notes:
                self.notes.append(note)
        trains = [running for running in progress.running.values() if running.epoch >= self._epoch]
        if not self.done and len(trains) == 2:
            self.done = True
            self._act()


def assert_exact(
    result: SweepResult, stores: Stores, queue: TrialQueue, epochs: int, last: int = FEW
) -> None:
    """Each cell has one COMPLETE trial and one FINISHED run, whose curve has every epoch once."""
    assert result.states == {"complete": 3}
    complete = [record for record in queue.records() if record.trial.state.name == "COMPLETE"]
    assert len(complete) == 3
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    runs = tracker.find_runs(result.experiment, {Tag.KIND: "trial"})
    assert sorted(runs) == sorted(str(record.run_id) for record in complete)
    curves = sorted(sorted(record.trial.intermediate_values) for record in complete)
    assert curves == [list(range(1, count + 1)) for count in (last, epochs, epochs)]


def queue_of(stores: Stores) -> TrialQueue:
    queue = find_queue(stores.storage, "tiny")
    assert queue is not None
    return queue


def test_a_calm_sweep(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    launcher = make(time=10)
    seen = Once(launcher, lambda: None)
    result = sweep(make_grid(epochs=20), stores, launcher=launcher, workers=2, on_progress=seen)
    assert_exact(result, stores, queue_of(stores), 20)
    assert any("2 running" in note for note in seen.notes)
    assert not Path(".lab/slurm").exists()
    until(lambda: not mine())


def test_preempted_workers_continue(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    launcher = make()
    urgent = ["sbatch", "--partition=urgent", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 2"]
    preempt = Once(launcher, lambda: run(*urgent))
    result = sweep(make_grid(epochs=300), stores, launcher=launcher, workers=2, on_progress=preempt)
    assert preempt.done
    assert_exact(result, stores, queue_of(stores), 300)
    assert {record.retries for record in queue_of(stores).records()} == {0}  # they were put back in order


def test_a_killed_worker_is_replaced_at_once(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    launcher = make()
    kill = Once(launcher, lambda: run("scancel", "--signal=KILL", f"{mine()[0]}.0"))  # the job's step
    result = sweep(make_grid(epochs=200), stores, launcher=launcher, workers=2, on_progress=kill)
    assert kill.done
    assert_exact(result, stores, queue_of(stores), 200)
    records = queue_of(stores).records()
    assert sorted(record.retries for record in records if record.trial.state.name == "COMPLETE") == [0, 0, 1]


def test_a_cancelled_worker_puts_its_trial_back(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    launcher = make()
    # so Slurm does with SIGKILL for a whole job, too: the job is CANCELLED, and its step gets SIGTERM first
    cancel = Once(launcher, lambda: run("scancel", "--signal=KILL", mine()[0]))
    result = sweep(make_grid(epochs=200), stores, launcher=launcher, workers=2, on_progress=cancel)
    assert cancel.done
    assert_exact(result, stores, queue_of(stores), 200)
    assert {record.retries for record in queue_of(stores).records()} == {0}


def test_trials_outlive_a_time_limit(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    launcher = make(time=1)
    begun: set[str] = set()
    watch = Once(launcher, lambda: None)

    def note(progress: Progress) -> None:
        watch(progress)
        begun.update(line.split(":")[0] for line in watch.notes)

    result = sweep(make_grid(1000, last=1000), stores, launcher=launcher, workers=2, on_progress=note)
    assert_exact(result, stores, queue_of(stores), 1000, last=1000)
    assert len(begun) > 1  # jobs
    assert {record.retries for record in queue_of(stores).records()} == {0}


def test_an_unknown_partition_is_one_error(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    with pytest.raises(
        LabError, match=r"^Slurm refuses the job: invalid partition specified: btch.* mean 'batch'"
    ):
        sweep(make_grid(), stores, launcher=make(partition="btch"), workers=2)
    assert not Path(".lab/slurm").exists()


def test_a_request_that_can_never_be_met_is_said(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    launcher = make(cpus_per_task=999)
    said: list[str] = []
    result = sweep(
        make_grid(),
        stores,
        launcher=launcher,
        workers=2,
        on_progress=lambda progress: said.extend(launcher.notes()),
        should_stop=lambda: any("can never start (PartitionConfig" in note for note in said),
    )
    assert result.states == {"waiting": 3}
    assert not mine()


def test_a_node_without_lab_is_told_with_its_log(
    make: Make, make_grid: MakeGrid, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmJobs, "late_seconds", 1.0)  # no NFS, whose news come late, lies between
    with pytest.raises(
        LabError, match=r"on node \S+: .*lacks a module: let `python` be .*\n.*No module named"
    ):
        sweep(make_grid(), stores, launcher=make(python=f"{sys.executable} -S -I"), workers=2)
    assert list(Path(".lab/slurm").rglob("*.out"))


def test_a_stopped_sweep_puts_everything_back(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    launcher = make()
    trains = Once(launcher, lambda: None)
    result = sweep(
        make_grid(epochs=100_000),
        stores,
        launcher=launcher,
        workers=2,
        on_progress=trains,
        should_stop=lambda: trains.done,
    )
    assert result.states == {"waiting": 3}
    assert list(stores.checkpoint_dir.rglob("*.pt"))
    until(lambda: not mine())


def test_a_controller_that_is_away_for_a_while(make: Make, make_grid: MakeGrid, stores: Stores) -> None:
    configuration = Path(os.environ.get("SLURM_CONF", "/etc/slurm/slurm.conf"))
    settings = dict(line.split("=", 1) for line in configuration.read_text().splitlines() if "=" in line)
    pid = Path(settings["SlurmctldPidFile"])
    launcher = make()

    def away() -> None:
        os.kill(int(pid.read_text()), signal.SIGTERM)

    stop = Once(launcher, away)

    def back(progress: Progress) -> None:
        stop(progress)
        silent = any("Slurm does not answer" in note for note in stop.notes)
        if silent and subprocess.run(["scontrol", "ping"], capture_output=True, timeout=60).returncode:
            run("slurmctld", "-f", str(configuration))

    # they must outlast the five seconds after which Slurm is asked again, also on a fast machine
    result = sweep(make_grid(epochs=1000), stores, launcher=launcher, workers=2, on_progress=back)
    assert any("Slurm does not answer" in note for note in stop.notes)
    assert_exact(result, stores, queue_of(stores), 1000)
    assert {record.retries for record in queue_of(stores).records()} == {0}


def test_detached_jobs_requeue_themselves_and_conclude(
    make: Make, make_grid: MakeGrid, stores: Stores
) -> None:
    # even a fast machine trains these for longer than Slurm takes to preempt them
    submit(make_grid(epochs=1000), stores)
    ids = submit_detached(Path(".lab/slurm"), 2, {"time": 10}, Origin.here(), stores, ["tiny"])
    assert len(ids) == 2
    until(
        lambda: (
            len(queue_of(stores).records()) and "RUNNING" in {t.state.name for t in queue_of(stores).trials()}
        )
    )
    run("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 2")
    # each requeues itself, and not the other: one of them has the array's own id
    until(lambda: [restarts(job) for job in ids] == [1, 1])

    def hurry() -> bool:
        for job in ids:
            if jobs()[job].is_pending:  # Slurm lets a requeued job wait for two minutes
                run("scontrol", "update", f"JobId={job}", "StartTime=now")
        return queue_of(stores).record().concluded

    until(hurry)
    assert [trial.state.name for trial in queue_of(stores).trials()] == ["COMPLETE"] * 3
    assert [restarts(job) for job in ids] == [1, 1]
    run("scancel", *ids)
    until(lambda: not mine())
