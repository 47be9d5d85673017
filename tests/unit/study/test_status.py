"""The progress of a study: what is interrupted, out of time or deleted, and what won."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import fields

from lab.study import StudyKey, StudyStatus, TrialKey, TrialQueue, study_status, winner

DEAD = f"{socket.gethostname()}:{os.getpid()}:0.00"  # whose process id is another process's now


def test_both_kinds_of_interrupted_trials_are_shown_as_one(
    url: str, make_queue: Callable[[int], TrialQueue]
) -> None:
    queue = make_queue(4)
    running, dead, unfinished = queue.claim(), queue.claim(), queue.claim()
    assert running is not None
    assert dead is not None
    assert unfinished is not None
    queue.note_trial(dead.trial_id, TrialKey.WORKER, DEAD)
    queue.report(dead.trial_id, 3, 0.25)
    queue.fail(unfinished.trial_id)  # by a process that was killed before it could requeue it
    status = study_status(url, "s")
    assert status.states == {"running": 1, "interrupted": 2, "waiting": 1}
    assert [trial["label"] for trial in status.running] == [running.label]
    assert [trial["label"] for trial in status.interrupted] == [dead.label, unfinished.label]
    assert (status.interrupted[0]["epoch"], status.interrupted[0]["value"]) == (3, 0.25)
    assert status.failed == []


def test_why_nothing_starts(url: str, make_queue: Callable[[int], TrialQueue]) -> None:
    queue = make_queue(1)
    assert (study_status(url, "s").out_of_time, study_status(url, "s").cancelled) == (False, False)
    queue.note(StudyKey.SECONDS, 60)
    queue.note(StudyKey.BEGAN, 0.0)
    assert study_status(url, "s").out_of_time
    queue.note(StudyKey.MAX_FAILURES, 0)
    status = study_status(url, "s")
    assert (status.out_of_time, status.too_many_failures) == (False, True)
    queue.cancel()
    assert study_status(url, "s").cancelled
    assert study_status(url, "s").states == {"cancelled": 1}
    queue.resume()
    assert (study_status(url, "s").out_of_time, study_status(url, "s").cancelled) == (False, False)


def test_a_trial_whose_run_was_deleted_does_not_win(
    url: str, make_queue: Callable[[int], TrialQueue]
) -> None:
    queue = make_queue(2)
    for run_id, value in (("gone", 0.9), ("there", 0.5)):
        claim = queue.claim()
        assert claim is not None
        queue.note_trial(claim.trial_id, TrialKey.RUN_ID, run_id)
        queue.complete(claim.trial_id, value)
    status = study_status(url, "s", lambda run_ids: run_ids & {"gone"})  # type: ignore[operator]
    assert (status.states, status.best_value) == ({"deleted": 1, "complete": 1}, 0.5)
    best = winner(queue)
    assert best is not None
    assert (best.run_id, best.best_value) == ("gone", 0.9)


def test_a_status_as_plain_values(url: str, make_queue: Callable[[int], TrialQueue]) -> None:
    make_queue(1)
    values = study_status(url, "s").as_dict()
    assert values.keys() == {field.name for field in fields(StudyStatus)}
    assert values["states"] == {"waiting": 1}
    assert type(next(iter(values["states"]))) is str


def test_what_the_engine_says_is_shown_while_it_is_renewed(
    url: str, make_queue: Callable[[int], TrialQueue]
) -> None:
    queue = make_queue(1)
    assert study_status(url, "s").engine == []
    said = {"lines": ["slurm 7: 3 pending (Resources)"], "host": "login01", "at": time.time()}
    queue.note(StudyKey.ENGINE, said)
    assert study_status(url, "s").engine == ["slurm 7: 3 pending (Resources)  (login01)"]
    for stale in (
        {**said, "at": time.time() - 200},
        {**said, "at": None},
        {**said, "lines": "x"},
        {},
        None,
        3,
    ):
        queue.note(StudyKey.ENGINE, stale)
        assert study_status(url, "s").engine == []
