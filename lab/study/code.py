"""The code that a study brings along: the plug-ins that its trials use, which workers anywhere train with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from optuna.trial import TrialState

from lab import plugins
from lab.config import TrialConfig
from lab.errors import StudyError
from lab.study.keys import StudyKey
from lab.study.queue import TrialQueue

__all__ = ["end_outdated", "keep_code", "own_code"]


def keep_code(queue: TrialQueue, configs: Iterable[TrialConfig], *, search: bool = False) -> None:
    """Keep the plug-ins of a study's trials in it, in place of what it had of them.

    Args:
        queue: of the study.
        configs: of its cells; of a search, some of them.
        search: whether it is a search's, whose text may name any plug-in that is loaded here.

    Raises:
        StudyError: a search has trials of other code: its sampler learns from all trials.
    """
    modules = {module for config in configs for module in config.use}
    kept = tuple(plugins.records(plugins.loaded() if search and modules else modules))
    known = queue.record().code
    if search and known and known != kept and any(record.run_id is not None for record in queue.records()):
        changed = sorted({each["module"] for each in kept if each not in known})
        raise StudyError(
            f"The code of {', '.join(changed) or 'its plug-ins'} has changed since the search '{queue.name}' began, "
            "and its trials can only be compared with the same code. Give the file another `name`, or restore the code"
        )
    if known != kept:
        queue.note(StudyKey.CODE, list(kept))


def end_outdated(queue: TrialQueue) -> int:
    """End the waiting trials of plug-ins whose code has changed since; return how many."""
    ended = 0
    for record in queue.records(TrialState.WAITING):
        values = record.config or {}
        digest, modules = values.get("code_digest"), values.get("use", [])
        if digest and set(modules) <= set(plugins.loaded()) and digest != plugins.code_digest(modules):
            queue.void(record, "its code has changed since it was planned")
            ended += 1
    return ended


@contextmanager
def own_code(queue: TrialQueue, *, allowed: bool) -> Iterator[None]:
    """Have the plug-ins of a study inside the block, as it has kept them.

    Args:
        queue: of the study.
        allowed: whether code from its database may run here.

    Raises:
        StudyError: it may not, or a package is missing here or has another version.
    """
    try:
        with plugins.installed(queue.record().code, allowed=allowed):
            yield
    except plugins.UnusableError as error:
        raise StudyError(f"The study '{queue.name}' {error}") from None
