"""Jobs of a real Slurm that are preempted, killed and out of time: each cell once, with a calm study's numbers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

from lab.errors import StudyError
from lab.identity import ProcessName
from lab.study import TrialQueue, find_queue
from tests.programs import start_lab

PATIENCE = 600  # seconds for a whole study; a loaded machine is slow
CELLS, PREEMPTIONS, KILLS = 24, 20, 10

GRID = """
name: {name}
max_retries: 50
base:
  dataset: synthetic
  image_size: 8
  width: 4
  depth: 1
  epochs: 300
  batch_size: 64
  dropout: 0.2
  patience: none
grid:
  lr: [0.005, 0.01, 0.02, 0.03]
  activation: [relu, tanh]
  seed: [0, 1, 2]
"""

Points = Callable[[str, str], dict[str, dict[str, list[tuple[int, float]]]]]


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


class Cluster:
    """A sweep whose workers are jobs, and a hand that takes their places away."""

    def __init__(self, home: Path, database: Callable[[], str]) -> None:
        self.home = home
        self.random = random.Random(20_240_229)
        self.done: Counter[str] = Counter()
        self.storage = database()
        self.tracking_uri = database().replace("://", "+psycopg://")
        self.sweep: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._queue: TrialQueue | None = None

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        process = start_lab(self.home, self.storage, self.tracking_uri, *words)
        self._started.append(process)
        return process

    def log(self) -> str:
        return (self.home / "log.txt").read_text()[-5000:]

    @property
    def queue(self) -> TrialQueue:
        if self._queue is None:
            self._queue = find_queue(self.storage, "chaos")
            assert self._queue is not None
        return self._queue

    def is_queued(self) -> bool:
        with suppress(StudyError):  # it is being created: nothing says yet that it is lab's
            return find_queue(self.storage, "chaos") is not None
        return False

    def training(self) -> dict[str, int]:
        """Return how many epochs the trial has that each job trains now, by the job's id."""
        found = {}
        for record in self.queue.records(TrialState.RUNNING):
            worker = ProcessName.parse(record.worker_name or "")
            with suppress(psutil.Error):
                if worker is not None and not worker.is_dead():
                    job = psutil.Process(worker.pid).environ()["SLURM_JOB_ID"]
                    found[job] = len(record.trial.intermediate_values)
        return found

    def wait(self, until: Callable[[], Any], what: str) -> Any:
        """Wait until something is so, and return it."""
        end = time.monotonic() + PATIENCE
        while not (found := until()):
            assert self.sweep is not None
            assert self.sweep.poll() is None, f"over before {what}, after {dict(self.done)}:\n{self.log()}"
            assert time.monotonic() < end, f"not {what}, after {dict(self.done)}:\n{self.log()}"
            time.sleep(0.1)
        return found

    def trained(self, count: int) -> list[str]:
        """Wait until `count` jobs train, each for a few epochs since; return their ids."""
        first: dict[str, int] = {}
        more = self.random.randint(0, 3)

        def ready() -> list[str]:
            now = self.training()
            for job, epochs in now.items():
                first[job] = min(epochs, first.get(job, epochs))  # its next trial begins with fewer
            jobs = [job for job, epochs in now.items() if epochs >= first[job] + more]
            return jobs if len(jobs) >= count else []

        jobs: list[str] = self.wait(ready, f"{count} jobs train")
        return jobs

    def kill(self) -> None:
        """Kill the worker of a job that trains: beside another, or perhaps while another is replaced."""
        job = self.random.choice(self.trained(self.random.randint(1, 2)))
        said("scancel", "--signal=KILL", f"{job}.0")  # of a whole job, Slurm makes a SIGTERM of it
        self.done["killed"] += 1
        self.wait(lambda: job not in self.training(), f"job {job} is dead")

    def let_run_out_of_time(self) -> None:
        """Leave two jobs alone until the time of each is up: while trials wait, nothing else ends them."""
        for job in self.trained(2):
            self.wait(lambda job=job: job not in squeue(), f"the time of job {job} is up")
            self.done["out of time"] += 1

    def preempt(self) -> None:
        """Let a job of the partition that goes first take the place of two."""
        victims = self.trained(2)
        urgent = said("sbatch", "--parsable", "-p", "urgent", "-c", "2", "-o", "/dev/null", "--wrap", "true")
        self.wait(lambda: not set(victims) & set(self.training()), "the jobs have gone")
        self.done["preempted"] += len(victims)
        self.wait(lambda: urgent not in squeue(), "the urgent job has run")

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said("scancel", "--full", "--name=lab-chaos")


def squeue(*words: str) -> list[str]:
    """Return the ids of jobs that have not ended."""
    return said("squeue", "-h", "-o", "%A", *words).split()


def restart_controller() -> None:
    """Stop Slurm's controller and start it again; jobs and nodes stay."""
    settings = dict(
        line.partition("=")[::2] for line in said("scontrol", "show", "config").replace(" ", "").splitlines()
    )
    controller = psutil.Process(int(Path(settings["SlurmctldPidFile"]).read_text()))
    controller.terminate()
    controller.wait(30)
    said("slurmctld", "-f", settings["SLURM_CONF"])


@pytest.fixture
def cluster(tmp_path: Path, own_postgres: Any) -> Iterator[Cluster]:
    if shutil.which("sinfo") is None or os.geteuid() != 0:
        pytest.skip("Slurm is not here, or its controller is another user's")
    found = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, check=False)
    if not {"batch", "urgent"} <= set(found.stdout.split()):
        pytest.skip(f"no Slurm with the partitions batch and urgent answers: {found.stderr.strip()}")
    for name in ("calm", "chaos"):
        (tmp_path / f"{name}.yaml").write_text(GRID.format(name=name))
    cluster = Cluster(tmp_path, own_postgres.database)
    yield cluster
    cluster.end()


@pytest.mark.slurm
@pytest.mark.timeout(1500)
def test_a_sweep_whose_jobs_lose_their_places(cluster: Cluster, own_postgres: Any, points: Points) -> None:
    calm = cluster.start("sweep", "calm.yaml", "--workers", "2")
    assert calm.wait(PATIENCE) == 0, cluster.log()
    sweep = cluster.start("sweep", "chaos.yaml", "--on", "slurm", "--workers", "2", "--time", "1m")
    cluster.sweep = sweep
    cluster.wait(cluster.is_queued, "queued")

    while cluster.done["killed"] < KILLS:
        cluster.kill()
    while cluster.done["preempted"] < PREEMPTIONS:
        cluster.preempt()
        if cluster.done["preempted"] == 6:
            restart_controller()
        if cluster.done["preempted"] == 12:  # studies and runs are in it
            own_postgres.stop()
            own_postgres.start()
    cluster.let_run_out_of_time()

    assert sweep.wait(PATIENCE) == 0, cluster.log()
    assert squeue("--name=lab-chaos") == []
    trials = cluster.queue.trials()
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(complete) == len({trial.user_attrs["lab:cell"] for trial in complete}) == CELLS
    # only who was killed counts as dead: the others have put their trials back
    assert 0 < Counter(trial.state for trial in trials)[TrialState.FAIL] <= cluster.done["killed"]
    chaos = points(cluster.tracking_uri, "chaos")
    assert len(chaos) == CELLS
    assert chaos == points(cluster.tracking_uri, "calm")
