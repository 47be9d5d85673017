"""Who sleeps on what others need: they wait, say so, and go on or tell plainly why not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from lab.config import Grid
from lab.engines import Stores, submit
from lab.engines.ending import end_run
from lab.engines.waking import Leftovers
from lab.errors import LabWarning, StudyError
from lab.study import TrialQueue, find_queue, lock, open_storage, open_study, opening, requeue_interrupted
from lab.study.lock import locked
from lab.tracking import RunStatus, connect, left
from lab.tracking.journal import RunJournal
from lab.tracking.writes import End, Tags


@contextmanager
def held(enter: Callable[[], object]) -> Iterator[None]:
    """Keep what `enter` returns, a context manager, entered in another thread."""
    inside, over = threading.Event(), threading.Event()

    def hold() -> None:
        with enter():  # type: ignore[attr-defined]
            inside.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_who_waits_for_a_planner_says_so_and_gives_up_plainly(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_storage(url).engine
    monkeypatch.setattr(lock, "_TELL_SECONDS", 0.1)
    with held(lambda: locked(engine, "study x")):
        monkeypatch.setattr(lock, "_MOST_SECONDS", 0.3)
        with (
            pytest.warns(LabWarning, match="Waiting for another process that holds study x"),
            pytest.raises(
                StudyError, match=r"has held study x for .* stopped or be asleep\. Continue it or end it"
            ),
            locked(engine, "study x"),
        ):
            pytest.fail("two at once")
    with locked(engine, "study x"):
        pass


def test_a_stop_ends_the_waiting_for_a_sleeping_planner(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_STOP_SECONDS", 0.5)
    stop = threading.Event()
    storage = open_storage(url, should_stop=stop.is_set)
    queue, _ = open_study(storage, "x", ["maximize"])
    with held(lambda: locked(storage.engine, "study x")):
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(StudyError, match="Another process holds study x, and this one was told to stop"):
            requeue_interrupted(queue)
        assert time.monotonic() - began < 10
        timer.join()
    assert requeue_interrupted(queue) == 0


def test_a_lock_that_is_let_go_of_at_once_is_waited_for_even_by_who_is_to_stop(url: str) -> None:
    storage = open_storage(url, should_stop=lambda: True)
    queue, _ = open_study(storage, "x", ["maximize"])
    with ExitStack() as stack:
        stack.enter_context(held(lambda: locked(storage.engine, "study x")))
        timer = threading.Timer(0.2, stack.pop_all().close)
        timer.start()
        assert requeue_interrupted(queue) == 0
        timer.join()


@pytest.mark.postgres
def test_a_transaction_that_somebody_sleeps_in_is_broken_off_and_done_again(
    postgres_server: str, postgres: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = opening._IDLE
    monkeypatch.setattr(opening, "_IDLE", "SET idle_in_transaction_session_timeout = '500ms'")
    address = postgres.database()  # type: ignore[attr-defined]
    sleeping, other = open_storage(address), open_storage(address)
    study_id = other.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "x")
    trial_id = other.create_new_trial(study_id)
    tries: list[str] = []

    def fall_asleep() -> str:
        with sleeping.engine.begin() as connection:
            connection.execute(sa.text("SELECT * FROM trials FOR UPDATE"))
            tries.append("began")
            if len(tries) == 1:
                monkeypatch.setattr(opening, "_IDLE", patient)  # of the connection for the second try
                other.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
            return str(connection.scalar(sa.text("SELECT state FROM trials")))

    began = time.monotonic()
    with pytest.warns(LabWarning, match="cannot be reached: .*idle-in-transaction timeout"):
        assert sleeping.patiently(fall_asleep) == "COMPLETE"
    assert len(tries) == 2
    assert time.monotonic() - began < 10


def test_who_waits_for_a_locked_sqlite_file_says_so(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_BUSY_SECONDS", 0.2)
    opened = open_storage(stores.storage)
    study_id = opened.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "x")
    inside = threading.Event()

    def sleep_in_it() -> None:
        with opened.engine.begin():
            inside.set()
            while not len(told):
                time.sleep(0.05)

    def set_meanwhile() -> None:
        thread = threading.Thread(target=sleep_in_it, daemon=True)
        thread.start()
        inside.wait()
        opened.set_study_user_attr(study_id, "a", 1)
        thread.join()

    with pytest.warns(LabWarning, match="cannot be reached: .*database is locked") as told:
        set_meanwhile()
    assert opened.get_study_user_attrs(study_id) == {"a": 1}


def test_whose_a_trial_is_can_be_asked_while_somebody_sleeps_on_the_database(
    url: str, stores: Stores, make_grid: Callable[..., Grid]
) -> None:
    (submission,) = submit(make_grid(), Stores(url, "memory"))
    queue = submission.queue
    claim = queue.claim()
    assert claim is not None
    with held(queue.storage.engine.begin):
        began = time.monotonic()
        assert queue.is_mine(claim.trial_id)
        assert time.monotonic() - began < 5
    queue.note_trial(claim.trial_id, "worker", "elsewhere:1:1.00")
    assert not queue.is_mine(claim.trial_id)
    queue.put_back(claim.trial_id)  # another's by now
    assert [trial.user_attrs["lab:worker"] for trial in queue.trials(TrialState.RUNNING)] == [
        "elsewhere:1:1.00"
    ]


def test_a_run_is_not_ended_whose_trial_was_taken_up_again(
    stores: Stores, make_grid: Callable[..., Grid]
) -> None:
    submit(make_grid(), stores)
    queue, tracker = found(stores), connect(stores.tracking_uri, stores.artifact_dir)
    claim = queue.claim()
    assert claim is not None
    run = tracker.open_run(name="t", experiment=tracker.experiment("tiny"), tags={})
    queue.note_trial(claim.trial_id, "run_id", run.run_id)
    queue.put_back(claim.trial_id)
    record = queue.records()[0]
    assert record.state == "waiting"
    again = found(stores).claim()  # while who put it back slept
    assert again is not None
    assert again.trial_id == claim.trial_id
    end_run(record, queue, tracker, RunStatus.KILLED, {"lab.outcome": "killed"})
    assert tracker.status(run.run_id) is RunStatus.RUNNING
    assert "lab.outcome" not in tracker.tags(run.run_id)
    queue.put_back(claim.trial_id)
    end_run(record, queue, tracker, RunStatus.KILLED, {"lab.outcome": "killed"})
    assert tracker.status(run.run_id) is RunStatus.KILLED


def found(stores: Stores) -> TrialQueue:
    queue = find_queue(stores.storage, "tiny")
    assert queue is not None
    return queue


def test_journals_that_nobody_holds_are_delivered_while_a_worker_waits(stores: Stores) -> None:
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    run = tracker.open_run(name="t", experiment=tracker.experiment("x"), tags={})
    journals = []
    for name in ("left", "held"):
        journal = RunJournal.create(stores.journal_dir / name, store=tracker.uri, run_id=run.run_id)
        assert journal is not None
        journal.add(Tags({name: "yes"}))
        journal.add(End(RunStatus.FINISHED, 1))
        journals.append(journal)
    journals[0].close()
    told: list[str] = []
    leftovers = Leftovers(stores, told.append)
    end = time.monotonic() + 120
    while not told and time.monotonic() < end:
        time.sleep(0.05)
    leftovers.close()
    assert told == ["Delivered 2 writes of 1 run left by a process that has died"]
    tags = tracker.tags(run.run_id)
    assert (tags.get("left"), tags.get("held")) == ("yes", None)
    assert left(stores.journal_dir, tracker.uri).writes == 2
    journals[1].close()


@pytest.mark.postgres
def test_workers_that_start_at_once_do_not_wait_for_each_other(postgres: Any) -> None:
    """Only who creates the tables is alone; and between its calls each worker keeps one connection of the server's."""
    url = postgres.database()
    engine = open_storage(url).engine
    with held(lambda: locked(engine, "tables")):
        again = open_storage(url).engine
    with again.connect(), again.connect() as connection:
        count = sa.text("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()")
        assert connection.scalar(count) >= 3
    assert again.pool.checkedin() == 1
