"""Which studies of a database have work that may start."""

from __future__ import annotations

from collections.abc import Callable

from optuna.distributions import FloatDistribution

from lab.config import TrialConfig
from lab.study import Studies, StudyKey, TrialQueue, open_storage, open_study


def test_a_study_waits_for_those_it_needs_unless_they_are_done(
    url: str, make_queue: Callable[[int], TrialQueue]
) -> None:
    needed = make_queue(2)
    queue, _ = open_study(open_storage(url), "after", ["maximize"])
    for key, value in {"experiment": "after", "monitor": "val_loss", "run_id": "1" * 32}.items():
        queue.note(key, value)
    queue.note(StudyKey.NEEDS, ["s"])
    queue.add(TrialConfig(), "it", {"lr": 0.1}, {"lr": FloatDistribution(0.001, 10)})

    def ready() -> list[str]:
        return [ready.name for ready in Studies(url).ready()]

    assert ready() == ["s"]
    first = needed.claim()
    assert first is not None
    needed.complete(first.trial_id, 0.5)
    needed.note(StudyKey.SECONDS, 60)
    needed.note(StudyKey.BEGAN, 0.0)
    assert ready() == []  # as under `lab sweep`: it is not done, though it is over
    needed.resume()
    assert ready() == ["s"]
    second = needed.claim()
    assert second is not None
    needed.complete(second.trial_id, 0.5)
    assert ready() == ["after"]


def test_studies_of_higher_priority_come_first(url: str, make_queue: Callable[[int], TrialQueue]) -> None:
    queues = {"s": make_queue(1)}
    for name in ("r", "t"):
        queue, _ = open_study(open_storage(url), name, ["maximize"])
        for key, value in {"experiment": name, "monitor": "val_loss", "run_id": "1" * 32}.items():
            queue.note(key, value)
        queue.add(TrialConfig(), "it", {"lr": 0.1}, {"lr": FloatDistribution(0.001, 10)})
        queues[name] = queue
    studies = Studies(url)

    def order() -> list[str]:
        return [queue.name for queue in studies.ready()]

    def outranked() -> set[str]:
        return {name for name, queue in queues.items() if studies.outrank(queue)}

    assert (order(), outranked()) == (["r", "s", "t"], set())
    queues["t"].note(StudyKey.PRIORITY, 2)
    queues["r"].note(StudyKey.PRIORITY, -1)
    assert (order(), outranked()) == (["t", "s", "r"], {"r", "s"})
    assert not Studies(url, ["r", "s"]).outrank(queues["s"])  # the workers there do not work on `t`
    assert queues["t"].claim() is not None
    assert (order(), outranked()) == (["s", "r"], {"r"})
    queues["s"].note(StudyKey.PRIORITY, "high")  # not by lab
    assert (order(), outranked()) == (["s", "r"], {"r"})
