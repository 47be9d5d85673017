"""What people read when they are told."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState, create_trial

from lab.engines.notice_texts import message_of
from lab.study import Standing, State, StudyRecord, TrialKey, TrialRecord
from lab.study.keys import noted
from lab.training import Outcome

STUDY = StudyRecord("digits", monitor="val_accuracy")


def record(label: str, **noted_values: object) -> TrialRecord:
    values = {TrialKey.CELL: "0" * 16, TrialKey.LABEL: label, **noted_values}
    attributes = {noted(key): value for key, value in values.items()}
    return TrialRecord(create_trial(state=TrialState.FAIL, user_attrs=attributes), STUDY)


BEST = record("relu lr=0.01", **{TrialKey.BEST_VALUE: 0.97216})
FAILED = record(
    "relu lr=9", **{TrialKey.OUTCOME: str(Outcome.FAILED), TrialKey.ERROR: "ValueError: no\n  such luck"}
)
DIED = [record(f"lr={number}", **{TrialKey.WORKER: f"node{number}:1:0.00"}) for number in range(7)]
STATES = {State.COMPLETE: 11, State.FAILED: 1}


def standing(
    best: TrialRecord | None = BEST, failed: tuple[TrialRecord, ...] = (), **other: object
) -> Standing:
    fields = {"states": STATES, "ended": 12, "lost": (), "over": True, "held_back": None, "now": 0.0} | other
    return Standing(STUDY, best=best, failed=failed, **fields)  # type: ignore[arg-type]


def test_a_study_is_done() -> None:
    message = message_of("done", standing(), link="http://mlflow/#/experiments/1")
    assert (message.title, message.kind) == ("digits: done", "success")
    assert message.body == (
        "12 cells: 11 complete, 1 failed\nBest: val_accuracy 97.22 %: relu lr=0.01\n"
        "http://mlflow/#/experiments/1\nMore: lab report digits"
    )


def test_a_study_is_over_with_failures() -> None:
    message = message_of("done", standing(None, (FAILED,), held_back="too_many_failures"))
    assert message.title == "digits: too many cells have failed (max_failures)"
    assert message.kind == "warning"
    assert "No trial has a result\nFailed: relu lr=9: ValueError: no such luck\n" in message.body


def test_the_first_failure_and_a_new_best() -> None:
    failure = message_of("failure", standing(failed=(FAILED,)))
    assert (failure.title, failure.kind) == ("digits: the first cell has failed", "failure")
    assert failure.body.splitlines()[0] == "Failed: relu lr=9: ValueError: no such luck"
    assert failure.body.splitlines()[-1] == "More: lab status digits"
    best = message_of("best", standing())
    assert (best.title, best.kind) == ("digits: new best, val_accuracy 97.22 %: relu lr=0.01", "success")


@pytest.mark.parametrize(("lost", "title"), [(1, "a worker was lost"), (7, "7 workers were lost")])
def test_lost_workers(lost: int, title: str) -> None:
    message = message_of("lost", standing(), DIED[:lost])
    assert (message.title, message.kind) == (f"digits: {title}", "warning")
    assert message.body.splitlines()[0] == "lr=0 on node0: the trial continues from its checkpoint"
    assert message.body.count("the trial continues") == min(lost, 5)
