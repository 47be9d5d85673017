"""What is requeued or put back for other workers: once, with what it had, and until it is given up."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from lab.study import (
    StudyKey,
    TrialKey,
    TrialQueue,
    is_left,
    put_back_dead,
    requeue_dead,
    requeue_deleted,
    requeue_failed,
    requeue_interrupted,
)
from lab.study.queue import Claim

MakeQueue = Callable[[int], TrialQueue]
DEAD = f"{socket.gethostname()}:{os.getpid()}:0.00"  # whose process id is another process's now


def claimed(queue: TrialQueue) -> Claim:
    claim = queue.claim()
    assert claim is not None
    return claim


def dead(queue: TrialQueue) -> Claim:
    claim = claimed(queue)
    queue.note_trial(claim.trial_id, TrialKey.WORKER, DEAD)
    return claim


def failed(queue: TrialQueue, error: str = "ValueError: no") -> Claim:
    claim = claimed(queue)
    queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
    queue.note_trial(claim.trial_id, TrialKey.ERROR, error)
    queue.fail(claim.trial_id)
    return claim


def states(queue: TrialQueue) -> list[str]:
    return [str(state) for state in queue.states().values()]


def test_a_dead_workers_trial_is_requeued_with_its_run_until_it_is_given_up(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    queue.note(StudyKey.CONCLUDED, True)
    for retry in range(3):
        claim = dead(queue)
        queue.note_trial(claim.trial_id, TrialKey.RUN_ID, "r1")
        queue.report(claim.trial_id, retry + 1, 0.5)
        assert states(queue) == ["interrupted"]
        given_up = requeue_dead(queue)
    assert [(record.trial_id, record.run_id) for record in given_up] == [(claim.trial_id, "r1")]
    assert states(queue) == ["failed"]
    assert [record.retries for record in queue.records()] == [0, 1, 2]
    (newest,) = queue.newest().values()
    assert newest.trial.intermediate_values == {1: 0.5, 2: 0.5, 3: 0.5}
    assert requeue_dead(queue) == []


def test_a_living_workers_trial_is_left_alone(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    claimed(queue)
    dead(queue)
    assert requeue_dead(queue) == []
    assert sorted(states(queue)) == ["running", "waiting"]


def test_what_was_failed_without_a_successor_is_requeued_by_anybody(make_queue: MakeQueue) -> None:
    for requeue in (requeue_dead, requeue_interrupted):
        queue = make_queue(1)
        queue.note(StudyKey.CONCLUDED, True)
        queue.fail(dead(queue).trial_id)
        assert states(queue)[-1] == "interrupted"
        assert requeue(queue) in ([], 1)
        assert not queue.record().concluded
        assert requeue_interrupted(queue) == 0
        queue.complete(claimed(queue).trial_id, 0.5)


def test_a_retry_resets_the_count_and_keeps_the_error(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    dead(queue)
    requeue_dead(queue)
    queue.complete(claimed(queue).trial_id, 0.5)
    again = failed(queue)
    assert again.tried
    record = queue.newest()[queue.records()[0].cell]
    assert requeue_failed(queue, ["another"]) == 0
    assert requeue_failed(queue, [record.cell]) == 1
    assert requeue_failed(queue) == 0
    claim = claimed(queue)
    assert (claim.earlier_error, claim.run_id) == ("ValueError: no", None)
    assert queue.records()[-1].retries == 0


def test_a_deleted_runs_cell_starts_anew(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    for run_id in ("gone", "there"):
        claim = claimed(queue)
        queue.note_trial(claim.trial_id, TrialKey.RUN_ID, run_id)
        queue.complete(claim.trial_id, 0.5)
    assert requeue_deleted(queue, set()) == 0
    assert requeue_deleted(queue, {"gone"}, ["another"]) == 0
    assert requeue_deleted(queue, {"gone"}) == 1
    claim = claimed(queue)
    assert (claim.label, claim.run_id, claim.tried) == ("lr=0.001", None, False)


def test_what_was_put_back_is_left_until_somebody_takes_it(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    claim = dead(queue)
    (record,) = put_back_dead(queue)
    assert record.trial_id == claim.trial_id
    assert is_left(queue, record)
    assert put_back_dead(queue) == []
    assert claimed(queue).trial_id == claim.trial_id
    assert not is_left(queue, record)


def test_what_was_given_up_is_left_until_it_is_requeued(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    queue.note(StudyKey.MAX_RETRIES, 0)
    dead(queue)
    (record,) = requeue_dead(queue)
    assert is_left(queue, record)
    assert requeue_failed(queue) == 1
    assert not is_left(queue, record)


def act(queue: TrialQueue, claim: Claim, step: str) -> None:
    if step == "die":
        queue.note_trial(claim.trial_id, TrialKey.WORKER, DEAD)
    elif step == "put back":
        queue.put_back(claim.trial_id)
    elif step == "fail":
        queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
        queue.fail(claim.trial_id)
    else:
        queue.complete(claim.trial_id, 0.5)


STEPS = st.lists(st.sampled_from(["die", "fail", "complete", "put back", "rescue", "retry"]), max_size=12)


@settings(max_examples=10)
@given(steps=STEPS)
def test_no_cell_is_lost_or_there_twice(new_queue: Callable[[int], TrialQueue], steps: list[str]) -> None:
    queue = new_queue(2)
    for step in steps:
        if step == "rescue":
            requeue_dead(queue)
        elif step == "retry":
            requeue_failed(queue)
        elif (claim := queue.claim()) is not None:
            act(queue, claim, step)
    unfinished = [record.cell for record in queue.records(TrialState.WAITING, TrialState.RUNNING)]
    assert len(unfinished) == len(set(unfinished))
    assert len(queue.states()) == 2
    while not queue.is_over():
        requeue_dead(queue)
        while (claim := queue.claim()) is not None:
            queue.complete(claim.trial_id, 0.5)
    assert set(states(queue)) <= {"complete", "failed"}
