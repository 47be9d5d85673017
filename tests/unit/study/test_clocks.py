"""Machines whose clocks are hours apart work on one study, whose database has a clock of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import optuna.storages._rdb.storage as optuna_storage
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from lab.engines.engine_notes import EngineNotes
from lab.study import StudyKey, TrialKey, TrialQueue, open_storage, requeue_dead
from lab.study import storage as storages

MakeQueue = Callable[[int], TrialQueue]
THERE = "another:7:1.00"


@pytest.fixture(params=[-9, 9])
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes this process, inside a block, one of a machine whose clock is hours off; the database's is right."""
    hours, now = request.param, time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=hours)

    @contextmanager
    def shift() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: now() + hours * 3600)
            patched.setattr(optuna_storage, "datetime", Shifted)
            patched.setattr(storages, "clock_ahead", lambda engine: hours * 3600.0)
            yield

    return shift


def another(queue: TrialQueue) -> TrialQueue:
    return TrialQueue(open_storage(str(queue.storage.engine.url)), queue.name)


def states(queue: TrialQueue) -> list[str]:
    return [record.trial.state.name for record in queue.records()]


def test_neither_thinks_the_others_living_worker_dead(
    make_queue: MakeQueue, there: Callable[[], Any]
) -> None:
    ours = make_queue(2)
    assert ours.claim() is not None
    with there():
        theirs = another(ours)
        assert requeue_dead(theirs) == []
        claim = theirs.claim()
        assert claim is not None
        theirs.note_trial(claim.trial_id, TrialKey.WORKER, None)  # about to say whose it is
        assert requeue_dead(theirs) == []
    assert requeue_dead(ours) == []
    assert states(ours) == ["RUNNING"] * 2


def test_a_silent_worker_is_requeued_once_by_whoever_looks(
    make_queue: MakeQueue, there: Callable[[], Any]
) -> None:
    ours = make_queue(1)
    with there():
        theirs = another(ours)
        claim = theirs.claim()
        assert claim is not None
        theirs.note_trial(claim.trial_id, TrialKey.WORKER, THERE)
    with ours.storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-61 seconds')"))
    requeue_dead(ours)
    with there():
        requeue_dead(another(ours))
    assert states(ours) == ["FAIL", "WAITING"]


def test_the_budgets_clock_is_the_databases(make_queue: MakeQueue, there: Callable[[], Any]) -> None:
    ours = make_queue(3)
    ours.note(StudyKey.SECONDS, 600)
    with there():
        theirs = another(ours)
        assert theirs.claim() is not None  # begins the clock
        assert theirs.claim() is not None
        assert theirs.held_back() is None
    assert ours.held_back() is None
    assert ours.claim() is not None
    assert ours.record().began == pytest.approx(time.time(), abs=60)
    assert len(ours.records(TrialState.RUNNING)) == 3


def test_what_an_engine_says_is_shown_on_any_machine(make_queue: MakeQueue, there: Callable[[], Any]) -> None:
    ours = make_queue(1)
    with there():
        notes = EngineNotes()
        notes.tell([(another(ours), ["2 pending"])])
    assert [line.partition("  ")[0] for line in ours.record().engine_says] == ["2 pending"]
    with there():
        assert [line.partition("  ")[0] for line in another(ours).record().engine_says] == ["2 pending"]
