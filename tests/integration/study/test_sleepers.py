"""Workers that sleep for longer than the grace and wake up, as a laptop does: their trials are others' by then."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from sqlalchemy.orm import Session

from lab.config import load_grid, parse_grid
from lab.engines import Stores, submit, sweep
from lab.objective import trial as objective
from lab.study import TrialQueue, find_queue, work
from lab.study.liveness import GRACE_SECONDS
from lab.tracking import connect, deliver
from lab.tracking.fenced import FencedRun
from lab.tracking.mlflow_run import MlflowRun
from lab.tracking.writes import Write
from lab.training import load_checkpoint
from lab.training.sums import Sums
from tests.programs import start_lab
from tests.servers import MlflowServer

PATIENCE = 240  # seconds; a loaded machine is slow
EPOCHS = 12
CELLS = 12
GRID = f"""
name: {{name}}
base:
  dataset: synthetic
  image_size: 8
  width: 4
  depth: 1
  epochs: {EPOCHS}
  batch_size: 256
  patience: none
grid:
  lr: [0.01, 0.02]
  activation: [relu, tanh]
  seed: [0, 1, 2]
"""

_naps: list[float] = []
_putting = threading.RLock()  # held while a write is put to a run


def nap() -> None:
    """Stop all of this process, once, until somebody continues it.

    Other threads fall asleep between two of their writes: a request that was sent cannot be taken back, and arrives
    whenever its process wakes up (see `lab.hold`). The moments below are those in which this thread writes.
    """
    if not _naps:
        _naps.append(time.time())
        is_idle = _putting.acquire(timeout=10)  # a thread may wait for what this one has locked
        # to this thread: the process's signal may go to another one, while this one does the next thing
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        if is_idle:
            _putting.release()


def put_one_at_a_time() -> None:
    real = FencedRun.put

    def put(self: FencedRun, write: Write) -> None:
        with _putting:
            real(self, write)

    setattr(FencedRun, "put", put)  # noqa: B010  # of this process only, which ends with the test


def nap_around(
    owner: Any, name: str, when: Callable[..., bool] = lambda *args: True, *, after: bool = False
) -> None:
    """Fall asleep before, or after, what `owner` calls `name` is done."""
    real = getattr(owner, name)

    def sleepy(*args: Any, **options: Any) -> Any:
        if not after and when(*args):
            nap()
        result = real(*args, **options)
        if after and when(*args):
            nap()
        return result

    setattr(owner, name, sleepy)


def nth(count: int) -> Callable[..., bool]:
    seen: list[int] = []

    def is_it(*args: Any) -> bool:
        seen.append(1)
        return len(seen) == count

    return is_it


def in_a_transaction() -> None:
    def begin(session: Any) -> None:
        if any(
            isinstance(one, optuna.storages._rdb.models.TrialIntermediateValueModel) for one in session.new
        ):
            session.flush()  # the rows are locked
            nap()

    sa.event.listen(Session, "before_commit", begin)


MOMENTS: dict[str, Callable[[], None]] = {
    "in an epoch": lambda: nap_around(Sums, "add", nth(50)),
    "before a run is made": lambda: nap_around(MlflowClient, "create_run"),
    "after a run was made": lambda: nap_around(MlflowClient, "create_run", after=True),
    "before an upload": lambda: nap_around(
        MlflowRun, "log_artifact", lambda _, path, *more: path.startswith("checkpoints/")
    ),
    "after points were sent": lambda: nap_around(MlflowClient, "log_batch", nth(4), after=True),
    "in a transaction": in_a_transaction,
    "while a checkpoint is replaced": lambda: nap_around(
        Path, "replace", lambda file, _: file.suffix == ".partial"
    ),
    "after the last epoch": lambda: nap_around(objective, "log_result"),
    "before the end": lambda: nap_around(MlflowClient, "set_terminated"),
    "before the study is told": lambda: nap_around(TrialQueue, "complete"),
}


def fall_asleep(moment: str, stores: Stores) -> None:
    """Work on the study, and fall asleep at `moment` of the first trial."""
    put_one_at_a_time()
    MOMENTS[moment]()
    work(stores.for_worker("tiny"), lambda event: None, lambda: False)


def fall_asleep_alone(stores: Stores) -> None:
    queue = find_queue(stores.storage, "tiny")
    assert queue is not None
    with queue.locked():
        nap()


@dataclass
class Night:
    """Who sleeps, and who goes on working meanwhile."""

    stores: Stores
    home: Path
    random: random.Random
    sleepers: list[Any] = field(default_factory=list)

    def fall_asleep(self, target: Callable[..., None], *args: Any) -> None:
        """Start a process, and wait until it has fallen asleep."""
        process = multiprocessing.get_context("forkserver").Process(target=target, args=args)
        process.start()
        self.sleepers.append(process)
        sleeping = psutil.Process(process.pid)
        self.wait(lambda: sleeping.status() == psutil.STATUS_STOPPED, f"{args} sleeps")

    def machine(self, name: str) -> Stores:
        """Return the stores as another machine sees them."""
        folder = self.home / name.replace(" ", "-")
        return replace(self.stores, checkpoint_dir=folder / "checkpoints", journal_dir=folder / "journal")

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < end, f"not yet: {what}\n{self.log()}"
            time.sleep(0.1)

    def log(self) -> str:
        file = self.home / "log.txt"
        return file.read_text()[-5000:] if file.exists() else ""

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command of lab in a process group of its own."""
        stores = self.stores
        return start_lab(self.home, stores.storage, stores.tracking_uri, *words, "--workers", "2")

    def pass_over(self, seconds: float, put_to_sleep: Callable[[int], None]) -> None:
        """Wake the sleepers one by one, most while their trials are taken over.

        Args:
            seconds: that who works sleeps meanwhile.
            put_to_sleep: is given a signal.
        """
        began, naps = time.monotonic(), [self.random.uniform(GRACE_SECONDS + 5, 95) for _ in self.sleepers]
        events: list[tuple[float, Callable[[], None]]] = [
            (GRACE_SECONDS + 12, lambda: put_to_sleep(signal.SIGSTOP)),
            (GRACE_SECONDS + 12 + seconds, lambda: put_to_sleep(signal.SIGCONT)),
            *(
                (nap, partial(os.kill, one.pid, signal.SIGCONT))
                for nap, one in zip(naps, self.sleepers, strict=True)
            ),
        ]
        for when, event in sorted(events, key=lambda each: each[0]):
            time.sleep(max(0.0, began + when - time.monotonic()))
            event()

    def finish(self) -> None:
        """Wait until the study is concluded and those who slept have ended."""
        queue = find_queue(self.stores.storage, "tiny")
        assert queue is not None
        self.wait(lambda: bool(queue.record().concluded), "all is done")
        for process in self.sleepers:
            process.join(PATIENCE)
            assert process.exitcode == 0

    def end(self) -> None:
        for process in self.sleepers:
            process.kill()


@pytest.fixture
def night(stores: Stores, tmp_path: Path) -> Iterator[Night]:
    home = tmp_path / "night"
    home.mkdir()
    (home / "tiny.yaml").write_text(GRID.format(name="tiny"))
    night = Night(stores, home, random.Random(95))
    yield night
    night.end()


@pytest.fixture
def calm(stores: Stores) -> Stores:
    """The stores with an undisturbed study."""
    sweep(parse_grid(GRID.format(name="calm"), "calm.yaml"), stores, workers=2)
    return stores


def facts(stores: Stores, study: str) -> dict[str, Any]:
    """Return of each trial its tags that say how it went, and its artifacts; the checkpoints by what they hold."""
    tracker = connect(stores.tracking_uri)
    runs = tracker.runs(tracker.experiment(study), tags={"lab.kind": "trial"})
    found = {}
    for name, run_id in zip(runs["name"], runs["run_id"], strict=True):
        tags = {
            key: value for key, value in tracker.tags(run_id).items() if key in ("lab.outcome", "lab.error")
        }
        paths = {path for path in tracker.files(run_id) if not path.startswith("model")}
        last = tracker.download(run_id, "checkpoints/last.pt", stores.checkpoint_dir / run_id)
        assert last is not None
        found[name] = (tags, paths, load_checkpoint(last)["epoch"])
    return found


def check(night: Night, calm: Stores, points: Any) -> None:
    queue = find_queue(night.stores.storage, "tiny")
    assert queue is not None
    for journals in night.home.glob(
        "*/journal"
    ):  # as `lab sync` does: of workers that ended before a slow server
        assert not deliver(connect(night.stores.tracking_uri), journals).left
    done = queue.completed()
    assert len(done) == len({trial.user_attrs["lab:cell"] for trial in done}) == CELLS
    assert Counter(trial.state.name for trial in queue.trials()).keys() <= {"COMPLETE", "FAIL"}
    found = points(night.stores.tracking_uri, "tiny")
    assert len(found) == CELLS
    assert found == points(calm.tracking_uri, "calm")
    assert facts(night.stores, "tiny") == facts(calm, "calm")


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_workers_that_slept_leave_what_others_have_taken_over(
    night: Night, calm: Stores, server: MlflowServer, postgres: Any, points: Any
) -> None:
    """Ten machines sleep at ten moments, for 65 to 95 seconds; studies are in PostgreSQL, runs on a server."""
    server.start()
    night.stores = replace(calm, storage=postgres.database(), tracking_uri=server.url)
    submit(load_grid(night.home / "tiny.yaml"), night.stores)
    for moment in MOMENTS:
        night.fall_asleep(fall_asleep, moment, night.machine(moment))
    worker = night.start("worker", "--study", "tiny")
    try:
        # for less than the grace: all of it goes on where it was
        night.pass_over(20, partial(os.killpg, worker.pid))
        night.finish()
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    check(night, calm, points)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_that_slept_beside_a_sweep_on_sqlite(night: Night, calm: Stores, points: Any) -> None:
    """They share checkpoints and journals with who takes over; one sleeps on a lock, and so does the sweep itself."""
    own = night.home / ".lab"
    night.stores = replace(calm, checkpoint_dir=own / "checkpoints", journal_dir=own / "journal")
    submit(load_grid(night.home / "tiny.yaml"), night.stores)
    for moment in (
        "in an epoch",
        "while a checkpoint is replaced",
        "after the last epoch",
        "before the study is told",
    ):
        night.fall_asleep(fall_asleep, moment, night.stores)
    night.fall_asleep(fall_asleep_alone, night.stores)
    running = night.start("sweep", "tiny.yaml")
    try:
        night.pass_over(75, partial(os.kill, running.pid))
        night.finish()
        assert running.wait(PATIENCE) == 0, night.log()
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    check(night, calm, points)
