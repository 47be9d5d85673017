"""How long a trial will take, judging by those of its study that were trained from start to end."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa

from lab.config import TrialConfig, parse_config, workload
from lab.errors import ConfigError
from lab.study.faults import translated
from lab.study.keys import OWN_TRIAL, TrialKey, has_form, noted
from lab.study.queue import TrialQueue
from lab.study.record import TrialRecord

__all__ = ["Forecast"]

_MOST = 100  # of the newest trials: enough for a median, however large the study is
_ENDED = sa.text(
    "SELECT t.datetime_start AS began, t.datetime_complete AS ended, a.value_json AS config,"
    " EXISTS (SELECT 1 FROM trial_user_attributes c WHERE c.trial_id = t.trial_id"
    f" AND c.key IN ('{noted(TrialKey.PUT_BACK)}', '{noted(TrialKey.RETRIES)}')) AS continued,"
    " p.value_json AS promoted"
    " FROM trials t JOIN trial_user_attributes a ON a.trial_id = t.trial_id"
    f" AND a.key IN ('{noted(TrialKey.CONFIG)}', '{TrialKey.CONFIG}')"
    " LEFT JOIN trial_user_attributes p ON p.trial_id = t.trial_id"
    f" AND p.key = '{noted(TrialKey.PROMOTED)}'"
    " WHERE t.study_id = :study AND t.state = 'COMPLETE' AND t.datetime_start IS NOT NULL"
    f" AND t.datetime_complete IS NOT NULL AND {OWN_TRIAL} ORDER BY t.trial_id DESC LIMIT :most"
).columns(began=sa.DateTime, ended=sa.DateTime)


class _Ended(NamedTuple):
    """A trial that has ended: what its last worker took for it, and the values of its config.

    `promoted` is the epoch after which it went on, as a trial of its own, once the pruner `rungs` let it; otherwise 0.
    """

    seconds: float
    config: Any
    continued: bool
    promoted: Any

    @property
    def epochs(self) -> int:
        """How many epochs its config allowed."""
        return _epochs(self.config)

    @property
    def pace(self) -> float:
        """Seconds for each of them that was left to this trial."""
        before = self.promoted if has_form(self.promoted, (int,)) else 0
        return self.seconds / max(1, self.epochs - before)


class Forecast:
    """Estimates, from one query, how long trials of a study take.

    The estimate is the median of what ended trials took for each epoch that they might have had: one that usually stops
    early is expected to do so again. Trials that several workers have trained do not count if there are others, because
    only the time of the last one is known.

    Args:
        queue: of the study.
    """

    def __init__(self, queue: TrialQueue) -> None:
        found = _ended(queue)
        self._whole = [each for each in found if not each.continued] or found
        self._pace = statistics.median([each.pace for each in self._whole]) if self._whole else None
        self._epochs = statistics.median([each.epochs for each in self._whole]) if self._whole else 0.0

    def seconds(self, record: TrialRecord) -> float | None:
        """Return how long a waiting trial will take from where it is continued; None if nothing tells."""
        if self._pace is None:
            return None
        planned = self._epochs if record.is_draft else _epochs(record.config or {})
        return self._pace * max(0.0, planned - record.epoch)

    def like(self, config: TrialConfig) -> float | None:
        """Return how long a trial of `config` will take, judging by those that were as much work an epoch.

        None if none of them was: see `lab.config.workload`.
        """
        paces = self._paces.get(workload(config))
        return statistics.median(paces) * config.epochs if paces else None

    @cached_property
    def _paces(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for each in self._whole:
            with suppress(ConfigError):  # of plug-ins that are not loaded
                found.setdefault(workload(parse_config(each.config)), []).append(each.pace)
        return found


def _ended(queue: TrialQueue) -> Sequence[_Ended]:
    rows = queue.rows(_ENDED, most=_MOST)
    with translated(queue.storage.database):
        return [
            _Ended(
                _between(row.began, row.ended),
                json.loads(row.config),
                bool(row.continued),
                json.loads(row.promoted or "0"),
            )
            for row in rows
        ]


def _between(began: datetime, ended: datetime) -> float:
    return max(0.0, (ended - began).total_seconds())


def _epochs(config: Any) -> int:
    """Return the epochs that a config allows, which names only what is not a default."""
    found = config.get("epochs") if isinstance(config, dict) else None
    fallback: int = TrialConfig.model_fields["epochs"].default
    return found if isinstance(found, int) and found > 0 else fallback
