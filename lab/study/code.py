"""The code that a study brings along: the plug-ins that its trials use, which workers anywhere train with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from optuna.trial import TrialState

from lab import plugins
from lab.config import TrialConfig
from lab.errors import StudyError
from lab.study.keys import StudyKey
from lab.study.queue import TrialQueue
from lab.study.record import TrialRecord

__all__ = ["end_outdated", "keep_code", "own_code"]


def keep_code(queue: TrialQueue, configs: Iterable[TrialConfig], *, search: bool = False) -> None:
    """Keep the plug-ins of a study's trials in it, in place of what it had of the same ones.

    Others that it has stay as long as any of its trials may still need them: what is submitted may be a part of it.

    Args:
        queue: of the study.
        configs: of its cells; of a search, some of them.
        search: whether it is a search's, whose text may name any plug-in that is loaded here.

    Raises:
        StudyError: a search has trials of other code: its sampler learns from all trials.
    """
    modules = {module for config in configs for module in config.use}
    given = {
        each["module"]: each for each in plugins.records(plugins.loaded() if search and modules else modules)
    }
    before = queue.record().code
    known = {each["module"]: each for each in before}
    changed = sorted(module for module in given.keys() & known.keys() if given[module] != known[module])
    if search and changed and any(record.run_id is not None for record in queue.records()):
        raise StudyError(
            f"The code of {', '.join(changed)} has changed since the search '{queue.name}' began, "
            "and its trials can only be compared with the same code. Give the file another `name`, or restore the code"
        )
    others = known.keys() - given.keys()
    needed = others & _modules_needed(queue) if others else set()
    kept = [given.get(module) or known[module] for module in sorted(given.keys() | needed)]
    if list(before) != kept:
        queue.note(StudyKey.CODE, kept)


def _modules_needed(queue: TrialQueue) -> set[str]:
    """Return the plug-ins of the trials that are not complete: each of them may be trained, or trained again."""
    return {
        module
        for record in queue.records()
        if record.trial.state is not TrialState.COMPLETE
        for module in _modules(record)
    }


def _modules(record: TrialRecord) -> set[str]:
    """Return the plug-ins that a trial's config names; none if another program has written something else."""
    found = (record.config or {}).get("use")
    return {module for module in found if isinstance(module, str)} if isinstance(found, list) else set()


def end_outdated(queue: TrialQueue, records: Iterable[TrialRecord]) -> int:
    """End those of a study's trials that wait and whose plug-ins' code has changed since; return how many."""
    ended = 0
    for record in records:
        if record.trial.state is not TrialState.WAITING:
            continue
        digest, modules = (record.config or {}).get("code_digest"), _modules(record)
        if digest and modules <= set(plugins.loaded()) and digest != plugins.code_digest(modules):
            queue.void(record, "its code has changed since it was planned")
            ended += 1
    return ended


@contextmanager
def own_code(queue: TrialQueue, *, allowed: bool, known: Collection[str] = ()) -> Iterator[None]:
    """Have the plug-ins of a study inside the block, as it has kept them.

    Args:
        queue: of the study.
        allowed: whether code from its database may run here.
        known: digests of plug-ins that may in any case.

    Raises:
        StudyError: it may not, or a package is missing here or has another version.
    """
    try:
        with plugins.installed(queue.record().code, allowed=allowed, known=known):
            yield
    except plugins.UnusableError as error:
        raise StudyError(f"The study '{queue.name}' {error}") from None
