"""What there is to tell about a study, taken from its trials, and noted so that each is told once by anybody.

Several processes may look after a study. What each address was told is noted in the study under the address's name, and
looked at and changed under the study's lock: whoever finds something new there tells it, and no other does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from lab.study.keys import StudyKey, has_form
from lab.study.queue import TrialQueue
from lab.study.record import StudyRecord, TrialRecord
from lab.study.state import State
from lab.study.status import best_of
from lab.study.view import HeldBack
from lab.training import Outcome

__all__ = ["News", "Standing", "claim_news", "news_for", "standing"]

_BEST_SECONDS = 600.0  # between two new bests that are told: a search finds one after another at first


@dataclass(frozen=True)
class Standing:
    """How a study stands.

    Attributes:
        study: its record.
        states: the number of its cells in each state.
        ended: how many trials have ended, each retry of a cell for itself; it changes with all that is trained.
        failed: its trials that failed, the first to fail first.
        lost: its trials whose worker died, the first to die first.
        best: the best finished trial.
        over: whether nothing is running, and nothing that waits may still start.
        held_back: why trials wait that do not start.
        now: the time by the database's clock, in seconds since 1970.
    """

    study: StudyRecord
    states: Mapping[State, int]
    ended: int
    failed: Sequence[TrialRecord]
    lost: Sequence[TrialRecord]
    best: TrialRecord | None
    over: bool
    held_back: HeldBack | None
    now: float

    @property
    def first_failure(self) -> TrialRecord | None:
        """The first trial that has failed since a user last submitted, resumed or retried the study."""
        return self.failed[self.study.forgiven] if len(self.failed) > self.study.forgiven else None

    @property
    def best_value(self) -> float | None:
        """The best value of the monitored metric, if it is finite."""
        value = None if self.best is None else self.best.best_value
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class News:
    """What there is to tell now: `events`, in the order of their weight, and the trials of workers that were `lost`."""

    events: tuple[str, ...] = ()
    lost: Sequence[TrialRecord] = ()


def standing(queue: TrialQueue) -> Standing:
    """Return how a study stands now."""
    records = queue.records()
    newest = {record.cell: record for record in records if not record.is_void}
    study = queue.record()
    return Standing(
        study=study,
        states=Counter(record.state for record in newest.values()),
        ended=sum(record.trial.state.is_finished() for record in records),
        failed=sorted((record for record in records if record.has_failed), key=_ended_at),
        lost=sorted((record for record in records if _is_lost(record)), key=_ended_at),
        best=best_of(newest.values(), study),
        over=queue.is_over(),
        held_back=queue.held_back(),
        now=queue.storage.now(),
    )


def claim_news(queue: TrialQueue, names: Collection[str]) -> tuple[Standing, dict[str, News]]:
    """Return how a study stands, and what to tell the addresses called `names`, by name.

    What is returned is noted as told: no other call returns it again.
    """
    seen = standing(queue)
    if all(news_for(seen, before)[1] == before for before in (_told(seen.study, name) for name in names)):
        return seen, {}

    def claim() -> tuple[Standing, dict[str, News]]:
        # while a dead worker's trial is being requeued, which is done in this lock, a study may look as if it were over
        with queue.locked():
            seen = standing(queue)
            found = {name: news_for(seen, _told(seen.study, name)) for name in names}
            told = {name: told for name, (_, told) in found.items()}
            queue.note(StudyKey.TOLD, {**seen.study.told, **told})
        return seen, {name: news for name, (news, _) in found.items()}

    return queue.storage.patiently(claim)


def news_for(seen: Standing, told: Mapping[str, float]) -> tuple[News, dict[str, float]]:
    """Return what to tell somebody who was told `told` before, and what they were told then.

    Whoever was told nothing yet hears of no worker that was lost and no best that was found before. The first trial
    that ends is the best so far, and no news. Once a study is over, the message that it is has its best, too.

    Args:
        seen: how the study stands.
        told: `failure`: how many failures were forgiven when one was told; `lost`: how many lost workers; `best` and
            `best_at`: the best value, and when it was told; `done`: how many trials had ended. All may be missing.
    """
    events, new = [], dict(told)
    lost = seen.lost[int(told.get("lost", len(seen.lost))) :]
    if seen.first_failure is not None and told.get("failure") != seen.study.forgiven:
        events.append("failure")
        new["failure"] = seen.study.forgiven
    if lost:
        events.append("lost")
    new["lost"] = len(seen.lost)
    value = seen.best_value
    if value is not None and value != told.get("best"):
        silent = "best" not in told or seen.over
        if not silent and _is_better(value, told["best"], seen) and _is_time(told, seen):
            events.append("best")
            new["best_at"] = seen.now
        if silent or "best" in events:
            new["best"] = value
    if seen.over and seen.ended and told.get("done") != seen.ended:
        events.append("done")
        new["done"] = seen.ended
    return News(tuple(events), lost), new


def _is_better(value: float, other: float, seen: Standing) -> bool:
    return value > other if seen.study.maximize else value < other


def _is_time(told: Mapping[str, float], seen: Standing) -> bool:
    return seen.now - told.get("best_at", -math.inf) >= _BEST_SECONDS


def _told(study: StudyRecord, name: str) -> dict[str, float]:
    found: Any = study.told.get(name)
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if has_form(value, (int, float))}


def _is_lost(record: TrialRecord) -> bool:
    """Return whether a trial was failed because its worker had died: it has not said that it failed."""
    return record.trial.state is TrialState.FAIL and record.outcome != Outcome.FAILED


def _ended_at(record: TrialRecord) -> tuple[float, int]:
    ended = record.trial.datetime_complete
    return (math.inf if ended is None else ended.timestamp()), record.number
