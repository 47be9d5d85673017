"""A study found by the name that a user typed."""

from __future__ import annotations

from lab.errors import StudyError
from lab.registry import suggest
from lab.study.queue import TrialQueue
from lab.study.status import find_queue, known_studies
from lab.study.studies import not_labs

__all__ = ["existing_study", "unknown_study"]


def existing_study(url: str, name: str) -> TrialQueue:
    """Return the queue of the study called `name`.

    Args:
        url: of the study database.
        name: of the study.

    Raises:
        StudyError: there is no such study (the message lists those that exist), or it is another program's.
    """
    queue = find_queue(url, name)
    if queue is None:
        raise unknown_study(url, name)
    return queue


def unknown_study(url: str, name: str) -> StudyError:
    """Return the error for a study that does not exist, with the names of those that do."""
    names, others = known_studies(url)
    if name in others:
        return StudyError(not_labs(name))
    if not names:
        return StudyError(
            f"There is no study '{name}'. There are no studies yet: `lab sweep GRID` creates one"
        )
    return StudyError(f"There is no study '{name}'.{suggest(name, names)} Known studies: {', '.join(names)}")
