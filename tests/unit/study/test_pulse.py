"""What a worker that wakes up may say of its trial, while another machine looks whether it is dead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from lab.errors import StudyError
from lab.study import TrialKey, TrialQueue, pulse, requeue_dead, rescue
from lab.study.pulse import Pulse

MakeQueue = Callable[[int], TrialQueue]


@pytest.fixture
def queue(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> TrialQueue:
    """A study whose one trial this process has, and of which nobody has heard for longer than the grace."""
    queue = make_queue(1)
    assert queue.claim() is not None
    with queue.storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-61 seconds')"))
    monkeypatch.setattr(pulse, "_OVERDUE_SECONDS", 0.0)
    monkeypatch.setattr(rescue, "is_awake_here", lambda process: False)  # as another machine sees it
    return queue


def trial_id(queue: TrialQueue) -> int:
    (record,) = queue.records(TrialState.RUNNING)
    return record.trial_id


def heartbeats(queue: TrialQueue) -> list[str]:
    with queue.storage.engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT heartbeat FROM trial_heartbeats")).scalars())


def test_a_worker_that_has_just_heard_that_it_has_its_trial_keeps_it(queue: TrialQueue) -> None:
    hold = Pulse(queue, trial_id(queue)).hold
    assert not hold.is_lost(anew=True)
    assert requeue_dead(queue) == []
    assert [str(state) for state in queue.states().values()] == ["running"]


def test_a_worker_that_has_lost_its_trial_does_not_speak_for_the_next(queue: TrialQueue) -> None:
    hold = Pulse(queue, trial_id(queue)).hold
    queue.note_trial(trial_id(queue), TrialKey.WORKER, "node1:7:1.00")
    before = heartbeats(queue)
    assert hold.is_lost(anew=True)
    assert heartbeats(queue) == before
    assert requeue_dead(queue) == []
    assert [str(state) for state in queue.states().values()] == ["waiting"]


def test_a_heartbeat_that_cannot_be_sent_leaves_the_question_unanswered(
    queue: TrialQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(trial_id: int) -> None:
        raise StudyError("no")

    monkeypatch.setattr(queue.storage, "try_heartbeat", fail)
    hold = Pulse(queue, trial_id(queue)).hold
    assert not hold.is_lost(anew=True)
    assert not hold.is_known
