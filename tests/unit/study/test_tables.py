"""Trials read and added many at a time: as Optuna would, in as many statements however many there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from lab.errors import StudyError
from lab.study import TrialQueue
from lab.study.queue import Queued

MakeQueue = Callable[[int], TrialQueue]


@contextmanager
def counted_statements(queue: TrialQueue) -> Iterator[list[str]]:
    """Yield a list that takes every statement that the database is sent in the block."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    sa.event.listen(queue.storage.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(queue.storage.engine, "before_cursor_execute", note)


def cells(count: int, first: int = 0) -> list[Queued]:
    distribution = FloatDistribution(0, 1_000)
    return [
        Queued({"x": float(number)}, {"x": distribution}, {"cell": f"{number:016x}", "label": str(number)})
        for number in range(first, first + count)
    ]


def test_trials_are_read_as_optuna_reads_them(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    kinds = {
        "c": CategoricalDistribution(["a", None, 3]),
        "n": IntDistribution(1, 9),
        "f": FloatDistribution(0, 1),
    }
    attributes = {
        "cell": "0" * 16,
        "label": "ü",
        "config": {"filters": [6, 16]},
        '"b\\,\nö': -math.inf,
        "": None,
    }
    queue.enqueue(
        [Queued({"c": None, "n": 3, "f": 0.5}, kinds, attributes, {1: 0.5, 2: math.inf, 3: -math.inf})]
    )
    for trial_id, value in ((1, math.inf), (2, 0.25)):
        assert queue.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        queue.storage.set_trial_system_attr(trial_id, "constraints", [0.0, 1.0])
        queue.complete(trial_id, value)
    read = queue.storage.get_all_trials(queue.study_id)
    assert read == [queue.storage.get_trial(trial_id) for trial_id in (1, 2, 3)]
    assert [trial.number for trial in read] == [0, 1, 2]
    assert list(read[2].params.items()) == [("c", None), ("n", 3), ("f", 0.5)]
    assert read[2].intermediate_values == {1: 0.5, 2: math.inf, 3: -math.inf}


def test_more_cells_take_no_more_statements(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    with counted_statements(queue) as few:
        queue.enqueue(cells(2))
    with counted_statements(queue) as many:
        queue.enqueue(cells(200, first=2))
    assert len(many) == len(few) > 0
    with counted_statements(queue) as reading:
        assert len(queue.trials()) == 203
    assert len(reading) == len({*reading})  # each table once
    assert [trial.number for trial in queue.trials()] == list(range(203))


def test_trials_are_queued_together_or_not_at_all(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    wrong = Queued({"x": "a"}, {"x": CategoricalDistribution(["a"])}, {"cell": "f" * 16})
    with pytest.raises(StudyError, match="Optuna rejects a trial of the study 's'"):
        queue.enqueue([*cells(3), wrong])
    assert len(queue.trials()) == 1
    queue.enqueue([])
    assert len(queue.trials()) == 1
