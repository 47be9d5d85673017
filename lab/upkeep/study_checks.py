"""Checks of the study database: whether workers can use it, and which trials have lost their worker."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.errors import StudyError
from lab.study import StorageProbe, database_exists
from lab.upkeep.clocks import clock_finding
from lab.upkeep.finding import Finding, Verdict
from lab.wording import counted

__all__ = ["check_studies"]

_CHECK = "study database"
_SIGN_IN = re.compile(r"password|authentication|role .* does not exist|no pg_hba", re.IGNORECASE)
_NOT_ALLOWED = re.compile(r"permission denied", re.IGNORECASE)
_DRIVER = re.compile(r"No module named", re.IGNORECASE)


def check_studies(url: str) -> Iterator[Finding]:
    """Check the database at `url`, up to the first failure."""
    if not database_exists(url):
        yield Finding(_CHECK, Verdict.OK, "none yet; the first sweep creates it")
        return
    try:
        probe = StorageProbe(url)
        finding, usable = _database(probe)
    except StudyError as error:
        yield Finding(_CHECK, Verdict.FAILED, str(error), _mend(str(error)))
        return
    yield finding
    ahead = probe.clock()
    if ahead is not None:
        yield clock_finding(ahead, "the study database")
    if usable:
        yield from _stale(probe)


def _database(probe: StorageProbe) -> tuple[Finding, bool]:
    """Return a finding about the tables, and whether they can be read."""
    schema = probe.schema()
    if schema.found is None:
        return Finding(_CHECK, Verdict.OK, f"{probe.url}: empty; the first sweep creates its tables"), False
    if schema.found != schema.expected:
        there = f"{probe.url}: its tables have version {schema.found}, Optuna here needs {schema.expected}"
        mend = f"optuna storage upgrade --storage '{probe.upgradable_url}'"
        return Finding(
            _CHECK, Verdict.FAILED, there, mend if schema.known else "pip install -U optuna"
        ), False
    if not probe.may_write():
        found = f"{probe.url}: signed in with a role that may only read: enough to view studies, not to train"
        return Finding(
            _CHECK, Verdict.WARNING, found, "Name a role with write access in --storage (LAB_STORAGE)."
        ), True
    return Finding(_CHECK, Verdict.OK, f"{probe.url}: answers; tables have version {schema.found}"), True


def _stale(probe: StorageProbe) -> Iterator[Finding]:
    stale, broken = probe.stale()
    if not stale:
        yield Finding("stale trials", Verdict.OK, "none: every running trial has a living worker")
    for study, why in broken.items():
        mend = f"optuna delete-study --storage URL --study-name '{study}', if it is not needed"
        yield Finding("studies", Verdict.FAILED, f"{study} cannot be read: {why}", mend)
    for study, labels in stale.items():
        shown = ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
        found = f"{study}: {counted(len(labels), 'trial is', 'trials are')} running without a living worker ({shown})"
        yield Finding("stale trials", Verdict.WARNING, found, f"lab resume {study} (or start any worker)")


def _mend(reason: str) -> str:
    if _SIGN_IN.search(reason):
        return (
            "Put the correct user and password into --storage (LAB_STORAGE), or the password into ~/.pgpass."
        )
    if _NOT_ALLOWED.search(reason):
        return "Grant the role read access to these tables, or name another role in --storage (LAB_STORAGE)."
    if _DRIVER.search(reason):
        return "Install its driver; for PostgreSQL, pip install 'lab[postgres]'"
    if "is not a database address" in reason or "none of them is Optuna's" in reason:
        return "Name another with --storage (LAB_STORAGE), e.g. postgresql://user@host/lab."
    return "Start that database, or name another with --storage (LAB_STORAGE)."
