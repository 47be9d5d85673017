"""What there is to tell of a study, and that each thing is told once by anybody."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.study import News, StudyKey, TrialKey, TrialQueue, claim_news, open_storage, requeue_dead
from lab.study import news as module
from lab.training import Outcome

DEAD = f"{socket.gethostname()}:{os.getpid()}:0.00"  # whose process id is another process's now
NAME = "$CHAT"


def told(queue: TrialQueue, name: str = NAME) -> tuple[str, ...]:
    return claim_news(queue, [name])[1].get(name, News()).events


def complete(queue: TrialQueue, values: Iterable[float]) -> None:
    for value in values:
        claim = queue.claim()
        assert claim is not None
        queue.note_trial(claim.trial_id, TrialKey.BEST_VALUE, value)
        queue.complete(claim.trial_id, value)


def fail(queue: TrialQueue) -> None:
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, TrialKey.OUTCOME, str(Outcome.FAILED))
    queue.note_trial(claim.trial_id, TrialKey.ERROR, "ValueError: no")
    queue.fail(claim.trial_id)


def test_the_first_failure_is_told_once_and_again_after_a_user_has_seen_it(
    make_queue: Callable[[int], TrialQueue],
) -> None:
    queue = make_queue(5)
    assert told(queue) == ()
    fail(queue)
    assert told(queue) == ("failure",)
    fail(queue)
    assert told(queue) == ()
    queue.forgive()
    assert told(queue) == ()
    fail(queue)
    seen, news = claim_news(queue, [NAME])
    assert news[NAME].events == ("failure",)
    assert seen.first_failure is not None
    assert seen.first_failure.label == "lr=0.003"


def test_a_new_best_is_told_but_not_the_first_and_not_too_often(
    make_queue: Callable[[int], TrialQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(9)
    complete(queue, [0.5])
    assert told(queue) == ()
    complete(queue, [0.4])
    assert told(queue) == ()
    complete(queue, [0.6])
    assert told(queue) == ("best",)
    complete(queue, [0.7, 0.8])
    assert told(queue) == ()
    monkeypatch.setattr(module, "_BEST_SECONDS", 0.0)  # ten minutes later
    assert told(queue) == ("best",)
    assert told(queue) == ()
    complete(queue, [0.7])
    assert told(queue) == ()


def test_a_study_is_over_once_until_more_of_it_is_trained(make_queue: Callable[[int], TrialQueue]) -> None:
    queue = make_queue(2)
    complete(queue, [0.5])
    assert told(queue) == ()
    complete(queue, [0.9])
    assert told(queue) == ("done",)  # which has the best, too
    assert told(queue) == ()
    queue.draft("slot-0")
    assert told(queue) == ()
    fail(queue)
    assert told(queue) == ("failure", "done")


def test_each_lost_worker_is_told_once(make_queue: Callable[[int], TrialQueue]) -> None:
    queue = make_queue(3)
    assert told(queue) == ()
    for _ in range(2):
        claim = queue.claim()
        assert claim is not None
        queue.note_trial(claim.trial_id, TrialKey.WORKER, DEAD)
    requeue_dead(queue)
    seen, news = claim_news(queue, [NAME])
    assert news[NAME].events == ("lost",)
    assert [record.label for record in news[NAME].lost] == ["lr=0.001", "lr=0.002"]
    assert not seen.over
    assert told(queue) == ()
    assert told(queue, "$LATER") == ()  # nobody hears of what was lost before he asked


def test_only_one_of_many_tells(make_queue: Callable[[int], TrialQueue], url: str) -> None:
    queue = make_queue(1)
    claim_news(queue, [NAME])
    fail(queue)
    queues = [TrialQueue(open_storage(url), "s") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        news = list(pool.map(told, queues))
    assert sorted(news) == [(), (), (), ("failure", "done")]


def test_what_another_version_has_noted_counts_as_nothing(make_queue: Callable[[int], TrialQueue]) -> None:
    queue = make_queue(1)
    queue.note(StudyKey.TOLD, {NAME: ["done"], "$OTHER": {"done": "yes"}})
    fail(queue)
    assert told(queue) == ("failure", "done")
    assert told(queue, "$OTHER") == ("failure", "done")
