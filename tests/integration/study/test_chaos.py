"""Workers and whole services killed at random moments: every cell once, and all its numbers those of a calm study."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lab.config import Grid
from lab.engines import Stores, submit, sweep
from lab.study import TrialQueue, WorkerSettings, find_queue, work
from lab.tracking import connect
from lab.tracking.journals import left
from tests.programs import start_lab
from tests.workers import forked, kill

CELLS = 80  # so many that a fast machine is not done before all kills
KILLS = 64
PATIENCE = 400  # seconds for a whole study; a loaded machine is slow

GRID = """
name: {name}
max_retries: 50
base:
  dataset: synthetic
  image_size: 8
  width: 4
  depth: 1
  epochs: 6
  batch_size: 256
  dropout: 0.2
  patience: none
grid:
  lr: [0.005, 0.01, 0.02, 0.03]
  activation: [relu, tanh]
  optimizer: [adam, sgd]
  seed: [0, 1, 2, 3, 4]
"""

Points = Callable[[str, str], dict[str, dict[str, list[tuple[int, float]]]]]


@dataclass
class Machine:
    """Processes of `lab` on some stores, and a hand that kills them."""

    home: Path
    stores: Stores
    random: random.Random
    services: list[tuple[tuple[str, ...], subprocess.Popen[bytes]]] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own, so that all of it can be killed at once."""
        process = start_lab(self.home, self.stores.storage, self.stores.tracking_uri, *words)
        self.services.append((words, process))
        return process

    def run(self, *words: str) -> None:
        """Run a command to its end."""
        code = self.start(*words).wait(PATIENCE)
        assert code == 0, self.log()
        self.services.pop()

    def log(self) -> str:
        return (self.home / "log.txt").read_text()[-5000:]

    def kill_worker(self) -> None:
        """Kill one of all workers, whatever it is at: starting, claiming, training, writing or ending a trial."""
        workers = [worker for _, service in self.services for worker in forked(by=service.pid)]
        if workers:
            kill(self.random.choice(workers))
            self.kills["worker"] += 1

    def kill_service(self) -> None:
        """Kill one service with all its workers, and start another like it."""
        chosen = self.random.choice(self.services)
        self.services.remove(chosen)
        words, process = chosen
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.kills["service"] += 1
        self.start(*words)

    def kill_at_random(self, over: Callable[[], bool]) -> None:
        """Kill until there were enough, and wait until it is over."""
        end = time.monotonic() + PATIENCE
        while not over():
            assert time.monotonic() < end, f"not over after {dict(self.kills)} kills:\n{self.log()}"
            # of Optuna's and MLflow's databases, checkpoints, claims and endings every moment has its turn
            time.sleep(self.random.uniform(0.05, 1.0))
            if self.kills.total() >= KILLS:
                continue
            if self.kills.total() in (KILLS // 4, KILLS // 2, 3 * KILLS // 4):
                self.kill_service()
            else:
                self.kill_worker()

    def end(self) -> None:
        for _, process in self.services:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def machine(tmp_path: Path, stores: Stores) -> Iterator[Machine]:
    for name in ("calm", "chaos"):
        (tmp_path / f"{name}.yaml").write_text(GRID.format(name=name))
    machine = Machine(tmp_path, stores, random.Random(20_240_229))
    yield machine
    machine.end()


def check(machine: Machine, points: Points) -> None:
    """Compare the study that was disturbed with the calm one."""
    queue = study(machine, "chaos")
    done = [trial for trial in queue.trials() if trial.state.name == "COMPLETE"]
    assert len(done) == len({trial.user_attrs["lab:cell"] for trial in done}) == CELLS
    assert Counter(trial.state.name for trial in queue.trials()).keys() <= {"COMPLETE", "FAIL"}
    assert machine.kills.total() >= 60
    assert machine.kills["service"] >= 1
    tracker = connect(machine.stores.tracking_uri)
    runs = tracker.runs(tracker.experiment("chaos"), tags={"lab.kind": "trial"})
    open_runs = runs[runs["status"] != "FINISHED"]
    assert open_runs.empty, (
        f"{open_runs.iloc[0].dropna().to_dict()}\nin journals: {left(machine.stores.journal_dir, tracker.uri)}\n"
        f"{machine.log()}"
    )
    chaos = points(machine.stores.tracking_uri, "chaos")
    assert len(chaos) == CELLS
    assert chaos == points(machine.stores.tracking_uri, "calm")


def die_before_it_says_its_run(settings: WorkerSettings) -> None:
    """Work until a trial's run was made, and the study is about to hear of it."""
    tell = TrialQueue.note_trial

    def deadly(queue: TrialQueue, trial_id: int, key: str, value: Any) -> None:
        if key == "run_id":
            os.kill(os.getpid(), signal.SIGKILL)
        tell(queue, trial_id, key, value)

    TrialQueue.note_trial = deadly  # type: ignore[method-assign]
    work(settings, lambda event: None, lambda: False)


@pytest.mark.slow
def test_a_run_whose_worker_was_killed_before_it_said_so_is_found_again(
    stores: Stores, make_grid: Callable[..., Grid]
) -> None:
    submit(make_grid(), stores)
    settings = WorkerSettings(
        "tiny", stores.storage, stores.tracking_uri, stores.artifact_dir, stores.checkpoint_dir
    )
    process = multiprocessing.get_context("forkserver").Process(
        target=die_before_it_says_its_run, args=(settings,)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    tracker = connect(stores.tracking_uri)
    (left,) = tracker.find_runs(tracker.experiment("tiny"), {"lab.kind": "trial"})
    assert sweep(make_grid(), stores, workers=1).states == {"complete": 4}
    runs = tracker.runs(tracker.experiment("tiny"), tags={"lab.kind": "trial"})
    assert left in runs["run_id"].tolist()
    assert runs["status"].tolist() == ["FINISHED"] * 4


def study(machine: Machine, name: str) -> TrialQueue:
    queue = find_queue(machine.stores.storage, name)
    assert queue is not None
    return queue


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sweeps_killed_at_random_moments_on_sqlite(machine: Machine, points: Points) -> None:
    machine.run("sweep", "calm.yaml", "--workers", "4")
    machine.start("sweep", "chaos.yaml", "--workers", "4")

    def over() -> bool:
        code = machine.services[0][1].poll()
        assert code in (None, 0), machine.log()
        return code == 0

    machine.kill_at_random(over)
    check(machine, points)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_services_killed_at_random_moments_on_postgres(
    machine: Machine, points: Points, postgres: Any
) -> None:
    """Studies and runs in PostgreSQL, and two services of two workers each."""
    tracking_uri = postgres.database().replace("://", "+psycopg://")
    machine.stores = replace(machine.stores, storage=postgres.database(), tracking_uri=tracking_uri)
    machine.run("sweep", "calm.yaml", "--workers", "4")
    machine.run("submit", "chaos.yaml")
    for _ in range(2):
        machine.start("worker", "--study", "chaos", "--workers", "2")
    queue = study(machine, "chaos")
    machine.kill_at_random(lambda: bool(queue.record().concluded))
    check(machine, points)
