"""How jobs ended that did not say so themselves, and what pending ones wait for, in plain words."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lab.engines.launcher import Exited
from lab.engines.slurm.queue import Job
from lab.logs import redacted

__all__ = ["how_it_ended", "notes_on"]

# by state: the place was taken away, whatever the worker did
_TAKEN: Final = {
    "BOOT_FAIL": "its node could not be started",
    "CANCELLED": "it was cancelled",
    "DEADLINE": "its deadline passed",
    "NODE_FAIL": "its node failed",
    "PREEMPTED": "it was preempted",
    "REVOKED": "it was revoked",
    "TIMEOUT": "its time limit was reached",
}
_ASKED = (-signal.SIGTERM, -signal.SIGUSR2)  # how a worker ends that a signal reaches before it can take any
_WAITS: Final = {
    "AssocGrp": "your account is at its limit",
    "AssocMaxJobs": "you run as many jobs as your account allows",
    "BeginTime": "its begin time has not come",
    "Dependency": "it waits for another job",
    "JobArrayTaskLimit": "as many of this array run as it allows",
    "JobHeldAdmin": "an administrator holds it",
    "JobHeldUser": "it is held: scontrol release",
    "Licenses": "it waits for a licence",
    "MaxCpuPerAccount": "your account is at its limit of CPUs",
    "QOSGrp": "this QOS is at its limit",
    "QOSMaxCpuPerUser": "you use as many CPUs as this QOS allows",
    "QOSMaxGRESPerUser": "you use as many GPUs as this QOS allows",
    "QOSMaxJobs": "you run as many jobs as this QOS allows",
    "ReqNodeNotAvail": "nodes it needs are down, drained or reserved",
    "Reservation": "it waits for its reservation",
}
_NEVER: Final = {
    "AccountNotAllowed": "the partition does not take this account",
    "AssocMax": "it asks for more than your account may use",
    "BadConstraints": "no node has what it asks for",
    "DependencyNeverSatisfied": "the job that it waits for has failed",
    "InvalidAccount": "there is no such account",
    "InvalidQOS": "there is no such QOS",
    "PartitionConfig": "it asks for more than any node of the partition has",
    "PartitionNodeLimit": "it asks for more than the partition allows",
    "PartitionTimeLimit": "it asks for more time than the partition allows",
    "QOSMaxCpuPerJob": "it asks for more CPUs than this QOS allows a job",
    "QOSMaxCpuPerNode": "it asks for more CPUs than this QOS allows a node",
    "QOSMaxGRESPerJob": "it asks for more GPUs than this QOS allows a job",
    "QOSMaxMemoryPerJob": "it asks for more memory than this QOS allows a job",
    "QOSMaxWallDurationPerJob": "it asks for more time than this QOS allows a job",
    "QOSNotAllowed": "the partition does not take this QOS",
}
_ADVICE: Final = {  # by what the log says
    "No module named": "The node's Python lacks a module: let `python` be that of lab's environment, or install "
    "'lab[slurm]' in it.",
    "execve()": "Let `python` be a path that exists on the node.",
    "could not find submitted jobs": "The node sees another folder of this name; start lab in one that nodes share.",
    "No space left on device": "Make room on the disk that it names.",
}
_TAIL_LINES = 12
_LEAST_BYTES = 100_000


def how_it_ended(name: str, job: Job | None, code: int | None, log: Path, *, began: bool) -> Exited:
    """Return how a worker ended whose last line is missing.

    Args:
        name: what to call its job.
        job: as it was last seen; None if it was not, or is not any more.
        code: what it ended with, if that is known.
        log: the file that it logged to.
        began: whether the worker said that it began.
    """
    where = f"{name}{f' on node {job.node}' if job is not None and job.node else ''}"
    if job is not None and job.state in _TAKEN:
        return Exited(-signal.SIGTERM, f"{where}: {_TAKEN[job.state]}", blameless=True)
    if job is not None and job.state == "OUT_OF_MEMORY":
        return Exited(-signal.SIGKILL, f"{where}: it ran out of memory (`mem`); its log is {log}")
    tail = _tail(log)
    if code is None and (began or (tail and "rror" not in tail)):
        return Exited(-signal.SIGKILL, f"{where}: it is gone without a word; its log is {log}")
    code = 1 if code is None else code
    if not began and (job is None or not job.node or -code not in set(signal.Signals)):
        return Exited(max(code, 1), f"{where}: {_unbegun(job, code, log, tail)}")
    if not began and code in _ASKED:
        return Exited(code, f"{where}: it was ended by {_name(code)} before it began", blameless=True)
    return Exited(code or 1, f"{where}: {_word(code)}; its log is {log}")


def notes_on(jobs: Iterable[tuple[str, Job | None]]) -> list[str]:
    """Return a line for each array, or single job: how many of it wait, what for, and how many run.

    Args:
        jobs: ids, and the jobs as they were last seen, if they were.
    """
    arrays: dict[str, list[Job]] = {}
    for name, job in jobs:
        arrays.setdefault(name.partition("_")[0], []).append(job or Job("PENDING"))
    return [f"slurm {name}: {', '.join(_counts(members))}" for name, members in arrays.items()]


def _counts(jobs: list[Job]) -> list[str]:
    waiting = Counter(_reason(job.reason) for job in jobs if job.is_pending)
    said = [f"{count} {words}" for words, count in waiting.items()]
    running = sum(job.state == "RUNNING" for job in jobs)
    ending = sum(not job.is_pending and job.state != "RUNNING" for job in jobs)
    return said + [f"{running} running"] * bool(running) + [f"{ending} ending"] * bool(ending)


def _reason(reason: str) -> str:
    """Return what a pending job waits for, in Slurm's word and in plain ones."""
    word = reason.split(",")[0].strip("( ")
    if never := _NEVER.get(_known(word)):
        return f"can never start ({word}: {never})"
    waits = _WAITS.get(_known(word), "")
    return "pending" + (f" ({word}{': ' if waits else ''}{waits})" if word else "")


def _known(word: str) -> str:
    """Return the longest beginning of a word that is a known reason; nothing if none is."""
    return max((key for key in (*_WAITS, *_NEVER) if word.startswith(key)), key=len, default="")


def _word(code: int) -> str:
    if -code not in set(signal.Signals):
        return f"its process ended with exit code {code}"
    often = ", which the kernel sends when memory runs out" if code == -signal.SIGKILL else ""
    return f"its process was ended by {_name(code)}{often}"


def _name(code: int) -> str:
    return signal.Signals(-code).name


def _unbegun(job: Job | None, code: int, log: Path, tail: str | None) -> str:
    """Return why a job ended before its worker began."""
    if job is not None and not job.node:
        return f"it never started: {_NEVER.get(_known(job.reason)) or job.reason or job.state}"
    if _is_full(log.parent):
        return f"{log.parent}: the disk is full; make room there, or work in another folder"
    if tail is None:
        return (
            f"it left no log in {log.parent}: the node cannot write there. Start lab in a folder that the nodes share, "
            "such as your home folder"
        )
    if not tail:
        return f"it ended with exit code {code} before a worker began, and logged nothing (`setup`?)"
    advice = next((f" {said}" for word, said in _ADVICE.items() if word in tail), "")
    return f"it ended before a worker began.{advice} The end of its log, {log}:\n{tail}"


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _LEAST_BYTES
    except OSError:
        return False


def _tail(log: Path) -> str | None:
    """Return the last lines of a log; None if there is none."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            said = [line.rstrip() for line in lines if line.strip()]
    except OSError:
        return None
    return redacted("\n".join(said[-_TAIL_LINES:]))
