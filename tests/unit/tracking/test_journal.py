"""The journal between a trial and its store, in front of a store in memory that can be away."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lab.children import child_context
from lab.errors import ResourceError, TrackingError
from lab.tracking import (
    JournaledTracker,
    MemoryTracker,
    Run,
    RunStatus,
    UnavailableError,
    courier,
    couriers,
    deliver,
    left,
    lock,
)
from lab.tracking.base import Left, Metric
from lab.tracking.courier import Courier
from lab.tracking.gate import Gate
from lab.tracking.journal import RunJournal
from lab.tracking.journals import journals, stores_left
from lab.tracking.lock import Lock
from lab.tracking.memory import MemoryRun
from lab.tracking.tags import Tag
from lab.tracking.writes import WRITES, Batch, Metrics, Params


class Store(MemoryTracker):
    """A store in memory that can be away, lose acknowledgements, refuse, and counts the points it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.deaf = 0  # so many requests are carried out, and not acknowledged
        self.refused: set[str] = set()  # kinds of writes
        self.asked: list[str] = []
        self.points: list[Metric] = []

    def around(self, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            name = args[0].kind if method == "write" else method
            if self.away:
                raise UnavailableError("no answer")
            if name in self.refused:
                raise TrackingError(f"403 for {name}")
            self.asked.append(name)
            answer = call(*args, **kwargs)
            if method == "write" and isinstance(args[0], Metrics | Batch):
                self.points += args[0].metrics
            if self.deaf:
                self.deaf -= 1
                raise UnavailableError("no acknowledgement")
            return Sent(self, answer) if isinstance(answer, MemoryRun) else answer

        return asked

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        asked = ("experiment", "open_run", "attach", "find_runs", "tags", "history", "download")
        return super().__getattribute__("around")(name, value) if name in asked else value


class Sent:
    """A run of a `Store`."""

    def __init__(self, store: Store, run: MemoryRun) -> None:
        self._store, self._run = store, run

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._run, name)
        return self._store.around(name, value) if callable(value) else value


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Courier, "first_pause", 0.01)
    monkeypatch.setattr(Courier, "longest_pause", 0.02)
    monkeypatch.setattr(Gate, "memory", 0.0)
    # a loaded machine is slow
    monkeypatch.setattr(courier, "_STOP_SECONDS", 60.0)
    monkeypatch.setattr(couriers, "_STOP_SECONDS", 60.0)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def tracker(store: Store, folder: Path) -> Iterator[JournaledTracker]:
    tracker = JournaledTracker(store, folder)
    yield tracker
    tracker.flush(0.0)


def new_run(tracker: JournaledTracker, **options: Any) -> Any:
    if "experiment" not in options:
        options["experiment"] = tracker.experiment("x")
    return tracker.open_run(**{"name": "trial", "tags": {"lab.kind": "trial"}, **options})


def let_go(tracker: JournaledTracker, seconds: float = 0.0) -> Left:
    """Flush as a process does that ends, and wait until none of its threads has a journal any more."""
    undelivered = tracker.flush(seconds)
    if tracker._rescue is not None:  # may have just begun, and would deliver as soon as the store is back
        tracker._rescue.join()
    return undelivered


def write_everything(run: Any, scratch: Path) -> None:
    run.log_params({"lr": "0.1"})
    run.log_metrics({"params": 5.0})
    for epoch in (1, 2, 3):
        run.log_history({epoch: {"loss": 1.0 / epoch, "nan": float("nan")}})
    run.set_tags({"a": "1", "gone": "x"})
    run.remove_tags(["gone"])
    run.log_text("text", "deep/config.yaml")
    (scratch / "last.pt").write_bytes(b"weights")
    run.log_file(scratch / "last.pt", "checkpoints")
    run.log_dataset("d", digest="1", source="s", shape=[1, 8, 8], classes=["a"], images={"train": 1})
    run.log_model(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.zeros(2, 1, 4, 4))
    run.end(RunStatus.FINISHED)


def stored(store: Store) -> dict[str, Any]:
    """Return all there is in the store of its only run, but for ids and times."""
    store.away = False
    (run,) = store._runs.values()
    run_id = run.run_id
    tags = {name: value for name, value in store.tags(run_id).items() if not name.startswith("lab.")}
    return {
        "status": run.status,
        "params": run.params,
        "points": json.dumps(run.points),
        "tags": tags,
        "artifacts": {name: content for name, content in run.artifacts.items() if "model" not in name},
        "models": sum("model" in name for name in run.artifacts),
        "datasets": run.datasets,
        "kind": store.tags(run_id)["lab.kind"],
    }


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed run leaves in the store."""
    store, scratch = Store(), tmp_path_factory.mktemp("calm")
    tracker = JournaledTracker(store, scratch / "journal")
    write_everything(new_run(tracker), scratch)
    assert not tracker.flush(60)
    return stored(store)


def test_all_of_it_arrives_and_the_journal_is_empty_then(
    tracker: JournaledTracker, store: Store, folder: Path, tmp_path: Path, calm: dict[str, Any]
) -> None:
    run = new_run(tracker)
    assert run.run_id in store._runs
    write_everything(run, tmp_path)
    assert not tracker.flush(60)
    assert stored(store) == calm
    assert len(store.points) == 7
    assert journals(folder) == []


def test_a_store_that_is_away_delays_nothing_and_gets_all_of_it_later(
    tracker: JournaledTracker, store: Store, folder: Path, tmp_path: Path, calm: dict[str, Any]
) -> None:
    store.away = True
    run = new_run(tracker)
    assert run.run_id.startswith("pending-")
    write_everything(run, tmp_path)
    assert tracker.history(run.run_id, "loss") == {1: 1.0, 2: 0.5, 3: 1 / 3}
    assert tracker.download(run.run_id, "deep/config.yaml", tmp_path).read_text() == "text"  # type: ignore[union-attr]
    undelivered = let_go(tracker, 0.05)
    assert (undelivered.runs, undelivered.refused) == (1, 0)
    assert str(undelivered) == f"{undelivered.writes} writes of 1 run"
    store.away = False
    result = deliver(store, folder)
    assert (result.writes, result.runs, result.away, bool(result.left)) == (undelivered.writes, 1, "", False)
    assert stored(store) == calm
    assert journals(folder) == []


def test_a_store_that_is_away_is_waited_for_less_patiently_than_a_slow_one(
    tracker: JournaledTracker, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "memory", 60.0)
    write = MemoryRun.write
    monkeypatch.setattr(MemoryRun, "write", lambda *args: (time.sleep(0.3), write(*args)))
    write_everything(new_run(tracker), tmp_path)
    assert not tracker.flush(60.0, patience=0.1)
    store.away = True
    new_run(tracker).log_metrics({"loss": 0.5}, step=1)
    began = time.monotonic()
    assert tracker.flush(60.0, patience=0.1).runs == 1
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("requests", range(1, 14))
def test_a_lost_acknowledgement_doubles_nothing(
    tracker: JournaledTracker, store: Store, tmp_path: Path, calm: dict[str, Any], requests: int
) -> None:
    run = new_run(tracker)
    store.deaf = requests
    write_everything(run, tmp_path)
    assert not tracker.flush(60)
    assert stored(store) == calm
    assert len({(name, step, when) for name, _, step, when in store.points}) == 7


def test_a_lost_acknowledgement_of_the_creation_makes_no_second_run(
    tracker: JournaledTracker, store: Store, tmp_path: Path, calm: dict[str, Any]
) -> None:
    experiment = tracker.experiment("x")
    store.deaf = 1
    write_everything(new_run(tracker, experiment=experiment), tmp_path)
    assert not tracker.flush(60)
    assert stored(store) == calm


@contextmanager
def logged_in_an_outage(tracker: JournaledTracker, store: Store) -> Iterator[Run]:
    """Yield a run; what is written to it is delivered afterwards, and `store.asked` has the requests of that."""
    run = new_run(tracker)
    tracker.flush(60)
    run = new_run(tracker, run_id=run.run_id)
    store.away = True
    (courier,) = tracker._couriers
    yield run
    before = courier._tries
    with courier._changed:  # the first may have taken what there was by then; what follows it takes all of it
        assert courier._changed.wait_for(lambda: courier._tries >= before + 2, 60)
    store.asked.clear()
    store.away = False
    tracker.flush(60)


def test_what_was_logged_during_an_outage_goes_in_few_requests(
    tracker: JournaledTracker, store: Store
) -> None:
    with logged_in_an_outage(tracker, store) as run:
        for epoch in range(1, 101):
            run.log_metrics({"loss": 1.0}, step=epoch)
    assert store.asked.count("metrics") <= 3
    assert len(store.points) == 100


def test_params_metrics_and_tags_go_in_one_request_and_never_pass_a_file(
    tracker: JournaledTracker, store: Store
) -> None:
    with logged_in_an_outage(tracker, store) as run:
        for step in (1, 2):
            run.log_params({"lr": str(step)})
            run.log_metrics({"loss": 1.0}, step=step)
            run.set_tags({"a": str(step)})
        run.log_text("text", "note.txt")
        run.set_tags({"a": "3"})
        run.log_metrics({"loss": 1.0}, step=3)
        run.end(RunStatus.FINISHED)
    writes = [name for name in store.asked if name in {*WRITES, Batch.kind} - {"tags"}]  # also asked for
    assert writes == ["batch", "file", "batch", "end"]
    (kept,) = store._runs.values()
    assert (kept.params, kept.tags["a"], kept.points["loss"].keys()) == ({"lr": "1"}, "3", {1, 2, 3})


@pytest.fixture
def gathering(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set while a courier has nothing to deliver; it waits for more writes from the next one on, however long."""
    monkeypatch.setattr(Courier, "gathering", 3600.0)
    gather, idle = Courier._gather, threading.Event()

    def noted(courier: Courier) -> None:
        if not courier._offered.is_set():
            idle.set()
        gather(courier)
        idle.clear()

    monkeypatch.setattr(Courier, "_gather", noted)
    return idle


def test_of_a_refused_batch_only_what_is_refused_is_kept(
    tracker: JournaledTracker, store: Store, folder: Path, gathering: threading.Event
) -> None:
    run = new_run(tracker)
    assert gathering.wait(60)
    store.refused = {"batch", "tags"}
    run.log_metrics({"loss": 1.0}, step=1)
    run.set_tags({"a": "1"})
    run.log_params({"lr": "1"})
    undelivered = tracker.flush(60)
    assert (undelivered.writes, undelivered.refused) == (1, 1)
    (kept,) = store._runs.values()
    assert (kept.params, kept.points, "a" in kept.tags) == ({"lr": "1"}, {"loss": {1: 1.0}}, False)
    store.refused = set()
    assert not deliver(store, folder, retry_refused=True).left
    assert store.tags(kept.run_id)["a"] == "1"


def test_writes_gather_but_nobody_waits_for_that(
    tracker: JournaledTracker, store: Store, folder: Path, gathering: threading.Event
) -> None:
    run = new_run(tracker)
    assert gathering.wait(60)
    run.log_metrics({"loss": 1.0}, step=1)
    time.sleep(0.1)
    assert store.points == []
    tracker._couriers.flush(time.monotonic() + 60)
    assert len(store.points) == 1
    run.set_tags({"a": "1"})  # may go at once: the flush has just asked for that
    time.sleep(0.1)
    run.log_metrics({"loss": 1.0}, step=2)
    run.end(RunStatus.FINISHED)
    deadline = time.monotonic() + 60
    while journals(folder):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(store.points) == 2


def test_of_an_artifact_only_the_newest_is_kept(
    tracker: JournaledTracker, store: Store, folder: Path
) -> None:
    store.away = True
    run = new_run(tracker)
    for epoch in range(20):
        run.log_text(f"state {epoch}", "checkpoints/last.pt")
    assert len(list(folder.glob("*/files/*/last.pt"))) == 1
    let_go(tracker)
    deliver_all(store, folder)
    (content,) = store.artifacts(next(iter(store._runs))).values()
    assert content == b"state 19"
    assert store.asked.count("file") == 1


def deliver_all(store: Store, folder: Path) -> None:
    store.away = False
    deadline = time.monotonic() + 60
    while deliver(store, folder).left:
        assert time.monotonic() < deadline


def processes() -> Any:
    """A new interpreter would import torch for seconds, and a fork of this one, which has threads, could hang."""
    return child_context(["lab.tracking.journaled"])


def die(folder: Path, tags: dict[str, str], told: Connection) -> None:
    """Open a run, log to it and die."""
    store = Store()
    store.away = True
    tracker = JournaledTracker(store, folder)
    run = new_run(tracker, tags=tags)
    run.log_metrics({"loss": 0.5}, step=1)
    run.log_text("so far", "note.txt")
    told.send(run.run_id)
    os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, **tags: str) -> str:
    """Have a process open a run, log to it and die; return its id."""
    context = processes()
    hears, tells = context.Pipe(duplex=False)
    process = context.Process(target=die, args=(folder, tags, tells))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return str(hears.recv())


def deliver_as_nobody(folder: Path, told: Connection) -> None:
    os.chdir(folder)  # to which the path is closed to others
    os.setuid(65534)
    result = deliver(Store(), Path())
    told.send((result.runs, result.foreign))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_journals_of_another_user_are_left_to_that_user(store: Store, folder: Path) -> None:
    killed(folder, **{Tag.KIND: "trial"})
    context = processes()
    hears, tells = context.Pipe(duplex=False)
    process = context.Process(target=deliver_as_nobody, args=(folder, tells))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert hears.recv() == (0, 1)
    assert deliver(store, folder).ended == ["trial"]


@pytest.mark.parametrize("kind", ["trial", "lr_range"])
def test_the_run_of_a_killed_process_is_ended_once(store: Store, folder: Path, kind: str) -> None:
    before = 1000 * int(time.time())
    killed(folder, **{Tag.KIND: kind})
    assert deliver(store, folder).ended == ["trial"]
    (kept,) = store._runs.values()
    assert (kept.status, kept.tags[Tag.OUTCOME]) == (RunStatus.KILLED, "killed")
    assert kept.points["loss"] == {1: 0.5}
    assert kept.end_time is not None
    assert before <= kept.end_time <= 1000 * time.time()
    assert not deliver(store, folder).ended
    assert journals(folder) == []


@pytest.mark.parametrize("trouble", ["away", "refusing"])
def test_the_run_of_a_killed_process_is_ended_once_the_store_answers(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    killed(folder, **{Tag.KIND: "trial"})
    error = UnavailableError("no answer") if trouble == "away" else TrackingError("403")

    def fail(run_id: str) -> RunStatus:
        raise error

    monkeypatch.setattr(store, "status", fail)
    for _ in range(2):  # the second time, nothing waits
        failed = deliver(store, folder)
        assert not failed.ended
        assert failed.away == ("no answer" if trouble == "away" else "")
        assert [each.reason for each in failed.refused] == ([] if trouble == "away" else ["403"])
    monkeypatch.undo()
    assert deliver(store, folder).ended == ["trial"]
    (kept,) = store._runs.values()
    assert kept.status is RunStatus.KILLED
    assert journals(folder) == []


@pytest.mark.parametrize("tags", [{Tag.KIND: "trial", Tag.STUDY: "s"}, {Tag.KIND: "study"}, {}])
def test_what_others_may_go_on_with_keeps_running(store: Store, folder: Path, tags: dict[str, str]) -> None:
    killed(folder, **tags)
    assert not deliver(store, folder).ended
    (kept,) = store._runs.values()
    assert kept.status is RunStatus.RUNNING


def test_a_run_whose_process_lives_keeps_running(
    tracker: JournaledTracker, store: Store, folder: Path
) -> None:
    store.away = True
    new_run(tracker)
    let_go(tracker)  # lets go of the journal
    store.away = False
    assert not deliver(store, folder).ended
    (kept,) = store._runs.values()
    assert kept.status is RunStatus.RUNNING


def test_a_killed_run_that_goes_on_elsewhere_is_not_ended(store: Store, folder: Path, tmp_path: Path) -> None:
    run_id = killed(folder, **{Tag.KIND: "trial"})
    elsewhere = JournaledTracker(store, tmp_path / "elsewhere")
    run = new_run(elsewhere, run_id=run_id)
    run.log_metrics({"loss": 0.25}, step=2)
    elsewhere.flush(60)
    assert not deliver(store, folder).ended
    (kept,) = store._runs.values()
    assert (kept.status, Tag.OUTCOME in kept.tags) == (RunStatus.RUNNING, False)
    assert kept.points["loss"] == {2: 0.25}


def test_a_killed_process_loses_nothing_and_its_run_goes_on(
    tracker: JournaledTracker, store: Store, folder: Path
) -> None:
    run_id = killed(folder, **{Tag.KIND: "trial"})
    store.away = True
    run = new_run(tracker, run_id=run_id)
    assert run.run_id == run_id
    assert tracker.history(run_id, "loss") == {1: 0.5}
    run.log_metrics({"loss": 0.25}, step=2)
    run.end(RunStatus.FINISHED)
    store.away = False
    assert not tracker.flush(60)
    (kept,) = store._runs.values()
    assert kept.points["loss"] == {1: 0.5, 2: 0.25}
    assert kept.artifacts == {"note.txt": b"so far"}
    assert kept.tags[Tag.JOURNAL] == run_id.removeprefix("pending-")


def test_another_machine_finds_a_pending_run_by_its_tag(store: Store, tmp_path: Path) -> None:
    first = JournaledTracker(store, tmp_path / "one")
    store.away = True
    run = new_run(first)
    run.log_metrics({"loss": 0.5}, step=1)
    let_go(first)
    deliver_all(store, tmp_path / "one")
    other = JournaledTracker(store, tmp_path / "two")
    again = new_run(other, run_id=run.run_id)
    assert other.history(run.run_id, "loss") == {1: 0.5}
    again.end(RunStatus.FINISHED)
    assert not other.flush(60)
    assert len(store._runs) == 1


def test_a_run_whose_journal_was_delivered_is_still_written_to_by_its_pending_id(
    tracker: JournaledTracker, store: Store, folder: Path
) -> None:
    store.away = True
    run = new_run(tracker, tags={Tag.KIND: "trial", Tag.STUDY: "s"})
    let_go(tracker)
    deliver_all(store, folder)
    assert journals(folder) == []
    other = JournaledTracker(store, folder)
    attached = other.attach(run.run_id)
    attached.log_metrics({"loss": 0.5}, step=1)
    attached.end(RunStatus.FINISHED)
    assert not other.flush(60)
    (kept,) = store._runs.values()
    assert (kept.status, kept.points) == ("FINISHED", {"loss": {1: 0.5}})
    assert journals(folder) == []


def test_a_pending_run_that_never_arrived_is_refused_by_name(store: Store, folder: Path) -> None:
    tracker = JournaledTracker(store, folder)
    tracker.attach("pending-0123").set_tags({"a": "1"})
    assert tracker.flush(60).refused == 1
    (refused,) = deliver(store, folder).refused
    assert refused.reason == "There is no run pending-0123 at memory"


def test_a_run_that_another_has_taken_over_gets_only_missing_points(store: Store, tmp_path: Path) -> None:
    first, second = (JournaledTracker(store, tmp_path / name) for name in ("one", "two"))
    run = new_run(first)
    store.away = True
    for epoch in (1, 2):
        run.log_metrics({"loss": 1.0, "accuracy": 0.5}, step=epoch)
    run.set_tags({"lab.outcome": "killed"})
    run.log_text("old", "note.txt")
    run.end(RunStatus.KILLED)
    let_go(first)
    store.away = False
    new = new_run(second, run_id=run.run_id)
    new.log_metrics({"loss": 0.9}, step=2)
    new.set_tags({"lab.outcome": "completed"})
    new.end(RunStatus.FINISHED)
    assert not second.flush(60)
    deliver_all(store, tmp_path / "one")
    (kept,) = store._runs.values()
    assert (kept.status, kept.tags["lab.outcome"], kept.artifacts) == ("FINISHED", "completed", {})
    assert kept.points == {"loss": {2: 0.9, 1: 1.0}, "accuracy": {1: 0.5, 2: 0.5}}


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Set the clock by which attempts are ordered, from what it shows really."""
    shown = time.time_ns
    monkeypatch.setattr(
        courier, "time", SimpleNamespace(monotonic=time.monotonic, time_ns=lambda: shown() + seconds * 10**9)
    )


@pytest.mark.parametrize("when", ["delivered", "waiting"])
def test_a_run_is_continued_by_its_own_journal_after_the_clock_was_set_back(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    first = JournaledTracker(store, folder)
    set_clock(monkeypatch, 3600)
    store.away = when == "waiting"
    run = new_run(first)
    first._couriers.flush(time.monotonic() + 5, time.monotonic())
    store.away = True
    run.log_metrics({"loss": 0.5}, step=1)
    let_go(first)  # its process is killed: the run has not ended, and its journal is left
    set_clock(monkeypatch, 0)
    store.away = False
    second = JournaledTracker(store, folder)
    again = new_run(second, run_id=run.run_id)
    again.log_metrics({"loss": 0.25}, step=2)
    again.set_tags({"lab.outcome": "completed"})
    again.end(RunStatus.FINISHED)
    assert not second.flush(60)
    (kept,) = store._runs.values()
    assert (kept.status, kept.tags["lab.outcome"]) == ("FINISHED", "completed")
    assert kept.points == {"loss": {1: 0.5, 2: 0.25}}


def test_a_sleeper_yields_to_who_opened_the_run_after_its_clock_was_set_back(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (JournaledTracker(store, tmp_path / name) for name in ("here", "there"))
    set_clock(monkeypatch, 3600)
    run = new_run(here)
    here._couriers.flush(time.monotonic() + 60)
    set_clock(monkeypatch, 0)
    store.away = True
    sleeper = new_run(here, run_id=run.run_id)
    sleeper.set_tags({"lab.outcome": "killed"})
    sleeper.end(RunStatus.KILLED)
    let_go(here)
    store.away = False
    new = new_run(there, run_id=run.run_id)
    new.set_tags({"lab.outcome": "completed"})
    new.end(RunStatus.FINISHED)
    assert not there.flush(60)
    deliver_all(store, tmp_path / "here")
    (kept,) = store._runs.values()
    assert (kept.status, kept.tags["lab.outcome"]) == ("FINISHED", "completed")


def test_what_the_store_refuses_stops_the_trial_and_is_kept(
    tracker: JournaledTracker, store: Store, folder: Path
) -> None:
    run = new_run(tracker)
    store.refused = {"tags"}
    run.set_tags({"a": "1"})
    tracker._couriers.flush(time.monotonic() + 60)
    with pytest.raises(TrackingError, match="403 for tags"):
        run.log_metrics({"loss": 1.0}, step=1)
    with pytest.raises(TrackingError, match="403 for tags"):
        run.end(RunStatus.FAILED)
    undelivered = tracker.flush(60)
    assert (undelivered.writes, undelivered.refused) == (1, 1)
    (kept,) = store._runs.values()
    assert (kept.status, kept.points) == ("FAILED", {"loss": {1: 1.0}})
    again = deliver(store, folder, retry_refused=True)
    assert [(one.run, one.writes, one.reason) for one in again.refused] == [("trial", 1, "403 for tags")]
    store.refused = set()
    assert not deliver(store, folder, retry_refused=True).left
    assert store.tags(kept.run_id)["a"] == "1"


def test_why_a_write_is_refused_is_known_before_it_counts_as_refused(
    tracker: JournaledTracker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, known = new_run(tracker), []
    (courier,) = tracker._couriers
    refuse = RunJournal.refuse

    def noted(*args: Any) -> None:
        known.append(str(courier.refusal))
        refuse(*args)

    monkeypatch.setattr(RunJournal, "refuse", noted)
    store.refused = {"tags"}
    run.set_tags({"a": "1"})
    tracker.flush(60)
    assert known == ["403 for tags"]


def test_a_journal_that_is_closed_slowly_is_waited_for(
    tracker: JournaledTracker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "_STOP_SECONDS", 0.5)
    close = RunJournal.close
    monkeypatch.setattr(RunJournal, "close", lambda journal: (time.sleep(1.0), close(journal)))
    new_run(tracker, tags={Tag.KIND: "trial", Tag.STUDY: "s"})  # which this process need not end
    tracker.flush(60)
    assert journals(folder) == []


def test_a_run_that_cannot_be_opened_is_told_at_once(tracker: JournaledTracker, folder: Path) -> None:
    with pytest.raises(TrackingError, match="no experiment 99"):
        new_run(tracker, experiment="99")
    tracker.flush(60)
    assert journals(folder) == []


def test_a_refused_opening_keeps_what_came_after_it(
    tracker: JournaledTracker, store: Store, folder: Path
) -> None:
    store.away = True
    run = new_run(tracker, experiment="99")
    run.log_metrics({"loss": 1.0}, step=1)
    let_go(tracker)
    store.away = False
    result = deliver(store, folder)
    assert (result.left.writes, result.left.refused) == (2, 1)
    assert "no experiment 99" in result.refused[0].reason


def test_an_experiment_is_asked_for_later(tracker: JournaledTracker, store: Store, folder: Path) -> None:
    known = tracker.experiment("known")
    store.away = True
    assert tracker.experiment("known") == known
    assert tracker.experiment("new") == "pending-experiment:new"
    new_run(tracker, experiment="pending-experiment:new").end(RunStatus.FINISHED)
    store.away = False
    assert not tracker.flush(60)
    assert len(store.find_runs(store.experiment("new"), {})) == 1


def test_a_journal_that_cannot_be_made_stops_the_trial(store: Store, folder: Path) -> None:
    folder.write_text("not a folder")
    with pytest.raises(
        ResourceError, match=r"The journal in .*journal.* cannot be written \(.*\).*Free space"
    ):
        new_run(JournaledTracker(store, folder))


def test_a_full_disk_stops_the_trial_and_the_store_hears_of_it(
    tracker: JournaledTracker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tracker)

    class Full:
        def __init__(self, database: sqlite3.Connection) -> None:
            self._database = database

        def execute(self, query: str, *values: Any) -> Any:
            if query.startswith("INSERT"):
                raise sqlite3.OperationalError("database or disk is full")
            return self._database.execute(query, *values)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._database, name)

    (courier,) = tracker._couriers
    monkeypatch.setattr(courier._journal, "_db", Full(courier._journal._db))
    with pytest.raises(ResourceError, match=r"cannot be written \(database or disk is full\)"):
        run.log_metrics({"loss": 1.0}, step=1)
    with pytest.raises(ResourceError, match="disk is full"):
        run.set_tags({"lab.outcome": "failed"})
    with pytest.raises(ResourceError, match="disk is full"):
        run.end(RunStatus.FAILED)
    (kept,) = store._runs.values()
    assert (kept.status, kept.tags["lab.outcome"]) == ("FAILED", "failed")


def test_a_folder_has_one_deliverer(tracker: JournaledTracker, store: Store, folder: Path) -> None:
    store.away = True
    new_run(tracker)
    (path,) = journals(folder)
    assert Lock.take(path) is None
    assert RunJournal.create(path) is None
    store.away = False
    assert deliver(store, folder).writes == 0  # its own process has it in hand


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made anew"])
def test_a_lock_file_that_its_last_holder_deleted_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    real = lock.lock_descriptor

    def locked(descriptor: int, **options: Any) -> bool:
        (tmp_path / "lock").rename(tmp_path / "kept")  # so that its inode is no other's
        if again:
            (tmp_path / "lock").touch()
        return real(descriptor, **options)

    monkeypatch.setattr(lock, "lock_descriptor", locked)
    assert Lock.take(tmp_path) is None
    monkeypatch.undo()
    taken = Lock.take(tmp_path)
    assert taken is not None
    assert Lock.take(tmp_path) is None
    taken.release()
    assert Lock.take(tmp_path) is not None


def test_what_is_for_another_store_is_left_alone(
    tracker: JournaledTracker, store: Store, folder: Path
) -> None:
    other = RunJournal.create(folder / "other", store="http://elsewhere")
    assert other is not None
    other.add(Params({}))
    other.close()
    result = deliver(store, folder)
    assert (result.writes, result.others, bool(left(folder, "memory"))) == (0, ["http://elsewhere"], False)


def test_a_journal_of_an_address_with_its_password_is_delivered_and_not_shown(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = RunJournal.create(folder / "earlier", store="postgresql://lab@db/lab?password=s3cret")
    assert earlier is not None
    earlier.add(Params({}))
    earlier.close()
    assert stores_left(folder) == ["postgresql://db/lab"]
    monkeypatch.setattr(Store, "uri", "postgresql://db/lab")
    assert left(folder, store.uri).writes == 1
    result = deliver(store, folder)
    assert ([one.folder for one in result.refused], result.others) == ([folder / "earlier"], [])


def test_a_damaged_journal_does_not_keep_the_others(store: Store, folder: Path) -> None:
    (folder / "damaged").mkdir(parents=True)
    (folder / "damaged" / "journal.db").write_text("no database " * 100)
    (folder / "damaged" / "lock").touch()
    tracker = JournaledTracker(store, folder)
    store.away = True
    new_run(tracker)
    let_go(tracker)
    store.away = False
    result = deliver(store, folder)
    assert (result.writes, [one.run for one in result.refused]) == (1, ["damaged"])
