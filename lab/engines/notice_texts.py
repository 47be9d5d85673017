"""What people are told of a study: a line that says it all, and a few that say more."""

from __future__ import annotations

from collections.abc import Sequence

from lab.config import in_percent
from lab.hooks import Message
from lab.study import Standing, TrialRecord
from lab.wording import counted

__all__ = ["message_of"]

_MOST_NAMED = 5  # lost trials
_LONGEST_ERROR = 300
_WHY_OVER = {
    None: "done",
    "out_of_time": "its time is up (budget.seconds)",
    "too_many_failures": "too many cells have failed (max_failures)",
}


def message_of(event: str, seen: Standing, lost: Sequence[TrialRecord] = (), link: str = "") -> Message:
    """Return the message about an event of a study.

    Args:
        event: one of `lab.config.NOTIFY_EVENTS`.
        seen: how the study stands.
        lost: the trials of the workers that were lost.
        link: to the page of its experiment; empty if only this machine has one.
    """
    if event == "done":
        said, lines, kind = _done(seen)
    elif event == "failure":
        said, lines, kind = _failure(seen)
    elif event == "best":
        said, lines, kind = f"new best, {_best(seen)}", [_counts(seen)], "success"
    else:
        said, lines, kind = _lost(lost), [*map(_lost_trial, lost[:_MOST_NAMED]), _counts(seen)], "warning"
    name = seen.study.name
    more = f"lab report {name}" if event == "done" else f"lab status {name}"
    return Message(f"{name}: {said}", "\n".join(filter(None, [*lines, link, f"More: {more}"])), kind)


def _done(seen: Standing) -> tuple[str, list[str], str]:
    failed = _failed(seen)
    kind = "warning" if failed or seen.held_back else "success"
    best = _best(seen)
    lines = [_counts(seen), f"Best: {best}" if best else "No trial has a result", *failed]
    return _WHY_OVER[seen.held_back], lines, kind


def _failure(seen: Standing) -> tuple[str, list[str], str]:
    return "the first cell has failed", [*_failed(seen), _counts(seen)], "failure"


def _failed(seen: Standing) -> list[str]:
    """Return the first failure since the study was submitted, if there is one."""
    first = seen.first_failure
    return [] if first is None else [f"Failed: {first.label}: {_one_line(first.failure)}"]


def _lost(lost: Sequence[TrialRecord]) -> str:
    return "a worker was lost" if len(lost) == 1 else f"{counted(len(lost), 'worker')} were lost"


def _lost_trial(record: TrialRecord) -> str:
    where = f" on {record.worker.host}" if record.worker is not None else ""
    then = "continues from its checkpoint" if record.may_retry else "was tried too often and has failed"
    return f"{record.label}{where}: the trial {then}"


def _best(seen: Standing) -> str:
    """Return `val_accuracy 97.22 %: relu lr=0.01`; nothing without a value."""
    if seen.best is None or seen.best_value is None:
        return ""
    monitor, value = seen.study.monitor, seen.best_value
    shown = f"{100 * value:.2f} %" if in_percent(monitor, [value]) else f"{value:.4g}"
    return f"{monitor} {shown}: {seen.best.label}"


def _counts(seen: Standing) -> str:
    counts = ", ".join(f"{number:,} {state}" for state, number in sorted(seen.states.items()))
    return f"{counted(sum(seen.states.values()), 'cell')}: {counts}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_ERROR else f"{line[: _LONGEST_ERROR - 1]}…"
