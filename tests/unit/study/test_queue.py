"""The queue: what waits and may start, the budget's clock, and trials that need a GPU to themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Barrier, Thread

import pytest
from optuna.trial import TrialState

from lab.identity import process_name
from lab.study import (
    StudyKey,
    TrialKey,
    TrialQueue,
    TrialRecord,
    open_storage,
    requeue_dead,
    requeue_failed,
)

MakeQueue = Callable[[int], TrialQueue]


def standing(queue: TrialQueue) -> tuple[bool, int, bool, bool]:
    return queue.waits(), queue.waiting(), queue.is_over(), queue.held_back() == "out_of_time"


def late(queue: TrialQueue) -> None:
    queue.note(StudyKey.SECONDS, 60)
    queue.note(StudyKey.BEGAN, time.time() - 61)


def test_the_clock_begins_with_the_first_claim(make_queue: MakeQueue) -> None:
    queue = make_queue(3)
    queue.note(StudyKey.SECONDS, 60)
    assert queue.record().deadline is None
    before = time.time()
    assert queue.claim() is not None
    began = queue.record().began
    assert began is not None
    assert before <= began <= time.time()
    assert queue.record().deadline == began + 60
    assert queue.claim() is not None
    assert queue.record().began == began


def test_a_study_without_a_budget_has_no_clock(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    assert queue.claim() is not None
    assert (queue.record().began, queue.record().deadline) == (None, None)


def test_when_time_is_up_nothing_starts_and_what_runs_ends(make_queue: MakeQueue) -> None:
    queue = make_queue(3)
    claim = queue.claim()
    assert claim is not None
    late(queue)
    assert queue.claim() is None
    assert standing(queue) == (False, 0, False, True)
    queue.complete(claim.trial_id, 0.5)
    assert standing(queue) == (False, 0, True, True)
    assert sorted(queue.states().values()) == ["complete", "waiting", "waiting"]


def test_a_study_that_was_done_in_time_is_not_out_of_it(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    claim = queue.claim()
    assert claim is not None
    queue.complete(claim.trial_id, 0.5)
    late(queue)
    assert standing(queue) == (False, 0, True, False)


def test_resuming_gives_a_study_its_time_again(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    late(queue)
    queue.note(StudyKey.CONCLUDED, True)
    queue.cancel()
    queue.resume()
    assert standing(queue) == (True, 2, False, False)
    assert not queue.record().concluded
    assert queue.claim() is not None
    assert queue.record().deadline is not None


def test_retrying_gives_a_study_its_time_again_if_that_was_up(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
    queue.fail(claim.trial_id)
    queue.note(StudyKey.SECONDS, 60)
    queue.note(StudyKey.BEGAN, began := time.time() - 30)
    assert requeue_failed(queue, ["another"]) == 0
    assert queue.record().began == began
    late(queue)
    assert requeue_failed(queue, ["another"]) == 0
    assert queue.record().is_late
    assert requeue_failed(queue) == 1
    assert queue.claim() is not None


def fail_next(queue: TrialQueue) -> bool:
    claim = queue.claim()
    if claim is None:
        return False
    queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
    queue.fail(claim.trial_id)
    return True


def test_after_too_many_failures_nothing_starts_and_what_runs_ends(make_queue: MakeQueue) -> None:
    queue = make_queue(5)
    queue.note(StudyKey.MAX_FAILURES, 2)
    running = queue.claim()
    assert running is not None
    assert [fail_next(queue) for _ in range(3)] == [True, True, False]
    assert (queue.waits(), queue.waiting(), queue.is_over(), queue.held_back()) == (
        False,
        0,
        False,
        "too_many_failures",
    )
    queue.complete(running.trial_id, 0.5)
    assert queue.is_over()
    queue.resume()
    assert (queue.waiting(), queue.is_over(), queue.held_back()) == (2, False, None)
    assert [fail_next(queue) for _ in range(2)] == [True, True]
    assert queue.held_back() is None  # nothing is left that could start


def test_retrying_forgives_failures(make_queue: MakeQueue) -> None:
    queue = make_queue(3)
    queue.note(StudyKey.MAX_FAILURES, 2)
    assert [fail_next(queue) for _ in range(3)] == [True, True, False]
    assert requeue_failed(queue) == 2
    assert [fail_next(queue) for _ in range(3)] == [True, True, False]
    assert sorted(queue.states().values()) == ["failed", "failed", "waiting"]


def test_a_trial_whose_worker_died_is_a_failure_once_it_is_not_retried(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    queue.note(StudyKey.MAX_FAILURES, 1)
    queue.note(StudyKey.MAX_RETRIES, 1)
    for failures in (0, 1):
        claim = queue.claim()
        assert claim is not None
        queue.note_trial(claim.trial_id, TrialKey.RETRIES, failures)
        assert len(requeue_dead(queue, [process_name()])) == queue.failed() == failures
    assert queue.claim() is None


def test_a_failure_during_a_claim_takes_it_back(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    queue.note(StudyKey.MAX_FAILURES, 1)
    running = queue.claim()
    assert running is not None

    def fits(_record: TrialRecord) -> bool:
        queue.note_trial(running.trial_id, TrialKey.OUTCOME, "failed")
        queue.fail(running.trial_id)  # in another worker, at this moment
        return True

    assert queue.claim(fits=fits) is None
    assert sorted(queue.states().values()) == ["failed", "waiting"]


def test_several_workers_start_nothing_after_the_last_failure_that_is_allowed(
    url: str, make_queue: MakeQueue
) -> None:
    workers, most = 4, 3
    make_queue(30).note(StudyKey.MAX_FAILURES, most)
    barrier, failed, began = Barrier(workers), list[float](), list[float]()

    def work() -> None:
        queue = TrialQueue(open_storage(url), "s")
        barrier.wait()
        while (asked := time.monotonic()) and fail_next(queue):
            began.append(asked)
            failed.append(time.monotonic())

    threads = [Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= len(failed) < most + workers
    assert max(began) < sorted(failed)[most - 1]
    assert TrialQueue(open_storage(url), "s").waiting() == 0


def test_an_exhausted_search_is_over_and_not_out_of_time(make_queue: MakeQueue) -> None:
    queue = make_queue(0)
    queue.draft("slot-0")
    late(queue)
    queue.note(StudyKey.SEARCH, {"text": "a"})
    queue.note(StudyKey.EXHAUSTED, {"text": "b"})  # of an earlier file
    assert (queue.is_exhausted(), queue.held_back()) == (False, "out_of_time")
    queue.note(StudyKey.EXHAUSTED, {"text": "a"})
    assert (queue.is_exhausted(), queue.held_back(), queue.is_over()) == (True, None, True)


def test_what_ran_out_of_memory_waits_for_a_worker_with_a_gpu_to_itself(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    claim = queue.claim(alone=False)
    assert claim is not None
    queue.put_back(claim.trial_id, alone=True)
    assert (queue.waiting(), queue.waiting_alone()) == (2, 1)
    other = queue.claim(alone=False)
    assert other is not None
    assert other.trial_id != claim.trial_id
    assert queue.claim(alone=False) is None
    again = queue.claim(alone=True)
    assert again is not None
    assert (again.trial_id, again.tried, queue.waiting_alone()) == (claim.trial_id, True, 0)


def test_a_trial_that_is_retried_keeps_its_gpu_to_itself(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    claim = queue.claim()
    assert claim is not None
    queue.put_back(claim.trial_id, alone=True)
    assert queue.claim() is not None
    queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
    queue.fail(claim.trial_id)
    assert requeue_failed(queue) == 1
    assert queue.waiting_alone() == 1
    late(queue)
    assert queue.waiting_alone() == 0


@pytest.mark.parametrize("form", [1, "true", [True], None])
def test_only_what_lab_notes_keeps_a_trial_waiting(make_queue: MakeQueue, form: object) -> None:
    queue = make_queue(1)
    queue.note_trial(queue.records()[0].trial_id, TrialKey.ALONE, form)
    assert queue.waiting_alone() == 0
    assert queue.claim(alone=False) is not None


def test_a_trial_that_another_process_ends_while_it_is_prepared_is_passed_over(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    prepared: list[int] = []

    def prepare(trial_id: int) -> bool:
        if not prepared:  # a sampler that took a minute, so that this worker was thought dead
            queue.storage.set_trial_state_values(trial_id, TrialState.FAIL)
        prepared.append(trial_id)
        queue.note_trial(trial_id, TrialKey.LABEL, "chosen")
        return True

    claim = queue.claim(prepare)
    assert claim is not None
    assert claim.trial_id == prepared[1] != prepared[0]


def test_a_stopped_trial_that_waits_ends_at_once_and_is_not_tried_again(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    first, second = queue.records()
    assert queue.claim() is not None
    queue.report(first.trial_id, 1, 0.25)
    queue.put_back(first.trial_id)
    assert [queue.stop(record.trial_id) for record in (first, second)] == [True, True]
    assert [queue.stop(record.trial_id) for record in (first, second)] == [False, False]  # they have ended
    assert queue.is_over()
    assert [(one.state, one.outcome, one.trial.value) for one in queue.records()] == [
        ("pruned", "pruned", 0.25),
        ("pruned", "pruned", None),
    ]
    assert (requeue_failed(queue), queue.claim()) == (0, None)


def test_a_stopped_trial_that_runs_is_its_workers_to_end(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    claim = queue.claim()
    assert claim is not None
    assert not queue.is_stopped(claim.trial_id)
    assert not queue.stop(claim.trial_id)
    assert queue.is_stopped(claim.trial_id)
    assert len(requeue_dead(queue, [process_name()])) == 0  # its worker dies before it can
    other = queue.claim()
    assert other is not None
    assert other.label == "lr=0.002"
    assert queue.claim() is None
    assert sorted(queue.states().values()) == ["pruned", "running"]


def test_a_stopped_trial_that_fails_may_be_retried(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    claim = queue.claim()
    assert claim is not None
    queue.stop(claim.trial_id)
    queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
    queue.fail(claim.trial_id)
    assert requeue_failed(queue) == 1
    assert queue.claim() is not None
