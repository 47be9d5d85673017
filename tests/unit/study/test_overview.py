"""All studies at one glance: they are what each says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from lab.study import StudyKey, StudySummary, TrialKey, TrialQueue, open_study, overview, study_status

MakeQueue = Callable[[int], TrialQueue]


def only(url: str) -> StudySummary:
    (summary,) = overview(url).studies
    return summary


def claimed(queue: TrialQueue) -> int:
    claim = queue.claim()
    assert claim is not None
    return claim.trial_id


def complete(queue: TrialQueue, value: float, outcome: str = "completed") -> None:
    trial_id = claimed(queue)
    queue.note_trial(trial_id, TrialKey.OUTCOME, outcome)
    queue.note_trial(trial_id, TrialKey.BEST_VALUE, value)
    queue.complete(trial_id, value)


def fail(queue: TrialQueue) -> None:
    trial_id = claimed(queue)
    queue.note_trial(trial_id, TrialKey.OUTCOME, "failed")
    queue.fail(trial_id)


def test_a_study_from_its_beginning_to_its_end(url: str, make_queue: MakeQueue) -> None:
    queue = make_queue(3)
    seen = [only(url)]
    trial_id = claimed(queue)
    seen.append(only(url))
    queue.complete(trial_id, 0.5)
    fail(queue)
    seen.append(only(url))
    complete(queue, 0.75)
    seen.append(only(url))
    assert [(str(one.state), one.done, one.total, one.failed, one.best_value) for one in seen] == [
        ("waiting", 0, 3, 0, None),
        ("running", 0, 3, 0, None),
        ("waiting", 1, 3, 1, 0.5),
        ("failed", 2, 3, 1, 0.75),
    ]
    assert seen[0].active is None
    for one in seen[1:]:
        assert one.active is not None
        assert timedelta() <= datetime.now(UTC) - one.active < timedelta(minutes=5)
    assert (seen[-1].monitor, seen[-1].best_label) == ("val_accuracy", "lr=0.003")


@pytest.mark.parametrize("zone", ["UTC+5", "UTC-9"])
def test_when_a_study_was_active_does_not_depend_on_the_time_zone(
    url: str, make_queue: MakeQueue, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        complete(make_queue(1), 0.5)
        active = only(url).active
    time.tzset()
    assert active is not None
    assert timedelta() <= datetime.now(UTC) - active < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        (StudyKey.CANCELLED, True, "cancelled"),
        (StudyKey.RUN_ID, None, "broken"),
        (StudyKey.EXPERIMENT, 3, "broken"),
    ],
)
def test_what_keeps_a_study_from_being_trained(
    url: str, make_queue: MakeQueue, key: str, value: object, word: str
) -> None:
    make_queue(1).note(key, value)
    found = [one.state for one in overview(url).studies]
    assert found == [word]


def test_a_study_is_stopped_by_the_clock_and_by_failures(url: str, make_queue: MakeQueue) -> None:
    queue = make_queue(3)
    queue.note(StudyKey.SECONDS, 60)
    queue.note(StudyKey.BEGAN, time.time() - 61)
    assert only(url).state == "stopped"
    queue.restart_clock()
    assert only(url).state == "waiting"
    queue.note(StudyKey.MAX_FAILURES, 1)
    fail(queue)
    assert only(url).state == "stopped"
    queue.resume()
    assert only(url).state == "waiting"


def test_drafts_of_an_exhausted_search_will_not_be_trained(url: str, make_queue: MakeQueue) -> None:
    queue = make_queue(0)
    assert only(url).state == "empty"
    for number in range(3):
        queue.draft(f"slot-{number}")
    complete(queue, 0.5)
    for key in (StudyKey.SEARCH, StudyKey.EXHAUSTED):
        queue.note(key, {"text": "a"})
    assert (only(url).state, only(url).done, only(url).total) == ("done", 1, 1)


def test_it_names_the_same_winner_and_counts_the_same_cells_as_the_study_itself(
    url: str, make_queue: MakeQueue
) -> None:
    queue = make_queue(6)
    for value, outcome in (
        (0.5, "completed"),
        (0.75, "diverged"),
        (0.625, "early_stopped"),
        (0.7, "completed"),
    ):
        complete(queue, value, outcome)
    fail(queue)
    queue.note(StudyKey.PLANNED, [record.cell for record in queue.records()[:3]])
    status, summary = study_status(url, "s"), only(url)
    assert (
        (summary.best_value, summary.best_label)
        == (status.best_value, status.best_label)
        == (0.625, "lr=0.003")
    )
    assert summary.states == status.states == {"complete": 4, "failed": 1, "waiting": 1}


def test_many_studies_take_as_many_queries_as_one(url: str, make_queue: MakeQueue) -> None:
    storage = make_queue(2).storage
    counts = [_queries(url)]
    for name in ("t", "u", "v"):
        open_study(storage, name, ["maximize"])
    counts.append(_queries(url))
    assert len(overview(url).studies) == 4
    assert counts[0] == counts[1]


def _queries(url: str) -> int:
    count = 0

    def add(*_: object) -> None:
        nonlocal count
        count += 1

    sa.event.listen(sa.Engine, "before_cursor_execute", add)
    overview(url)
    sa.event.remove(sa.Engine, "before_cursor_execute", add)
    return count
