from __future__ import annotations

import socket

import pytest
from optuna.distributions import FloatDistribution

from lab.config import TrialConfig
from lab.engines import engine_notes
from lab.engines.engine_notes import telling
from lab.study import TrialQueue, open_storage, open_study


@pytest.fixture
def queue(url: str) -> TrialQueue:
    queue, _ = open_study(open_storage(url), "s", ["maximize"])
    for key, value in {"experiment": "s", "monitor": "val_accuracy", "run_id": "0" * 32}.items():
        queue.note(key, value)
    queue.add(TrialConfig(lr=0.1), "lr=0.1", {"lr": 0.1}, {"lr": FloatDistribution(0.001, 10)})
    return queue


def shown(queue: TrialQueue) -> list[str]:
    return queue.record().engine_says


def test_it_is_noted_and_taken_back_at_the_end(queue: TrialQueue) -> None:
    with telling() as notes:
        notes.tell([(queue, [])])
        assert queue.record().engine == {}
        notes.tell([(queue, ["2 pending"])])
        assert shown(queue) == [f"2 pending  ({socket.gethostname()})"]
        at = queue.record().engine["at"]
        notes.tell([(queue, ["1 pending"])])  # too soon
        notes.tell([(queue, ["2 pending"])])
        assert queue.record().engine["at"] == at
    assert shown(queue) == []


def test_a_change_is_noted_after_a_while_also_that_there_is_nothing_left_to_say(
    queue: TrialQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_notes, "_CHANGE_SECONDS", 0.0)
    with telling() as notes:
        notes.tell([(queue, ["2 pending"])])
        notes.tell([(queue, ["1 pending", "node7: no server"])])
        assert [line.partition("  ")[0] for line in shown(queue)] == ["1 pending", "node7: no server"]
        notes.tell([])  # the study is no longer among those that it has to do with
        assert shown(queue) == []


def test_the_same_is_renewed(queue: TrialQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_notes, "_RENEWAL_SECONDS", 0.0)
    with telling() as notes:
        notes.tell([(queue, ["2 pending"])])
        before = queue.record().engine["at"]
        notes.tell([(queue, ["2 pending"])])
        assert queue.record().engine["at"] > before
