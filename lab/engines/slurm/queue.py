"""What Slurm's commands say of jobs, without accounting: many clusters have none, and so no `sacct`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lab.errors import LabError

__all__ = [
    "Job",
    "SilentError",
    "cancel",
    "check_commands",
    "exit_code",
    "find_job",
    "hosts",
    "id_here",
    "is_silence",
    "jobs",
    "last_line",
    "parse_left",
    "partitions",
    "requeue",
    "seconds_left",
    "signal_jobs",
]

_COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
_PENDING = (
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
)
_ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT", "ENDED"),  # the last is that of a local job
)
_SECONDS = 30.0  # that a command may take
_MOST_IDS = 500  # in one command line
_SILENT: Final = re.compile(
    r"unable to contact|timed out|connection refused|connection reset|communication connection|temporarily"
    r"|zero bytes were transmitted|transport endpoint|unexpected message|in standby|backup mode|munge",
    re.IGNORECASE,
)
_LEFT = re.compile(r"(?:(?P<days>\d+)-)?(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):)?(?P<seconds>\d+)")


class SilentError(Exception):
    """Slurm's controller does not answer, or not now; it is asked again later."""


@dataclass(frozen=True)
class Job:
    """A job, or one task of an array, as `squeue` lists it.

    Args:
        state: `PENDING`, `RUNNING`, `COMPLETED` …
        reason: why it is pending or has failed, in Slurm's word.
        node: where it runs or ran; empty if it has not begun.
    """

    state: str
    reason: str = ""
    node: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether it has not begun."""
        return self.state in _PENDING

    @property
    def has_ended(self) -> bool:
        """Whether it will not go on."""
        return self.state in _ENDED


def check_commands() -> None:
    """Raise unless jobs can be submitted from this machine.

    Raises:
        LabError: Slurm's commands are not here.
    """
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        raise LabError(
            f"Slurm's {', '.join(f'`{command}`' for command in missing)} cannot be found on this machine's PATH: run "
            "this where you submit jobs, usually a cluster's login node (perhaps after `module load slurm`). "
            "Without Slurm, use --on local"
        )


def jobs() -> dict[str, Job]:
    """Return this user's jobs by id, such as `123` or `123_4`, with those that ended a little while ago.

    Raises:
        SilentError: Slurm does not answer.
    """
    said = _ask(
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        f"--user={os.getuid()}",
        "--format=%i|%T|%r|%N",
    )
    rows = (line.strip().split("|") for line in said.splitlines())
    return {row[0]: Job(row[1], "" if row[2] == "None" else row[2], row[3]) for row in rows if len(row) == 4}


def id_here(environment: Mapping[str, str]) -> str | None:
    """Return the id of the job that a process with this environment is in, such as `123` or `123_4`; None outside jobs.

    `SLURM_JOB_ID` will not do: one task of an array has the array's own id, which Slurm's commands take for all tasks.
    """
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def find_job(job: str) -> Job:
    """Return the job with this id, such as `123` or `123_4`, which must be known to Slurm.

    Raises:
        LabError: it is not.
        SilentError: Slurm does not answer.
    """
    said = _ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%r|%N")
    state, reason, node = said.splitlines()[0].strip().split("|")
    return Job(state, reason, node)


def signal_jobs(ids: Sequence[str], signal: str, *, full: bool = False) -> None:
    """Send a signal to the steps of those of these jobs that run, or to all of their processes (`full`).

    Slurm takes SIGKILL for a job, such as `7_1`, to cancel it, with SIGTERM first; only a step, such as `7_1.0`, is
    really killed.

    Raises:
        SilentError: Slurm does not answer.
    """
    for some in _parts(ids):
        _tell("scancel", "--state=RUNNING", f"--signal={signal}", *(["--full"] if full else []), *some)


def cancel(ids: Sequence[str], *, pending: bool = False) -> None:
    """Cancel these jobs, or only those of them that are `pending`; raises `SilentError`."""
    for some in _parts(ids):
        _tell("scancel", *(["--state=PENDING"] if pending else []), *some)


def requeue(job: str) -> None:
    """Queue a running job once more, which ends it.

    Raises:
        LabError: Slurm refuses.
        SilentError: it does not answer.
    """
    _ask("scontrol", "requeue", job)


def exit_code(job: str) -> int | None:
    """Return what an ended job's script ended with, -N if signal N ended it; None if Slurm has forgotten."""
    try:
        said = _ask("scontrol", "--oneliner", "show", "job", job)
    except (LabError, SilentError):
        return None
    found = re.search(r"\bExitCode=(\d+):(\d+)", said)
    if found is None:
        return None
    code, signal = int(found[1]), int(found[2])
    if signal:
        return -signal
    return 128 - code if code > 128 else code  # as the shell tells which signal ended a command


def partitions() -> list[str]:
    """Return the names of the partitions; none if Slurm does not say."""
    try:
        return sorted(set(_ask("sinfo", "--noheader", "--format=%R").split()))
    except (LabError, SilentError):
        return []


def hosts(partition: str | None = None) -> list[str]:
    """Return the names of the nodes, or of those of a partition; none if Slurm does not say."""
    chosen = [] if partition is None else [f"--partition={partition}"]
    try:
        return sorted(set(_ask("sinfo", "--noheader", "--format=%n", *chosen).split()))
    except (LabError, SilentError):
        return []


def seconds_left(environment: Mapping[str, str], now: float) -> float | None:
    """Return for how many more seconds the job that this process is in may run; None if no limit is known.

    Args:
        environment: of this process.
        now: seconds since 1970.
    """
    end = environment.get("SLURM_JOB_END_TIME", "")  # since Slurm 23
    if end.isdecimal():
        return int(end) - now
    job = id_here(environment)
    if job is None:
        return None
    try:
        return parse_left(_ask("squeue", "--noheader", f"--jobs={job}", "--format=%L"))
    except (OSError, LabError, SilentError):
        return None


def parse_left(text: str) -> float | None:
    """Return a time such as `1-02:03:04` in seconds; None for `UNLIMITED` and the like."""
    found = _LEFT.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (
        int(part or 0) for part in found.group("days", "hours", "minutes", "seconds")
    )
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds


def is_silence(said: str) -> bool:
    """Return whether this is what Slurm's commands say when the controller is away or busy."""
    return _SILENT.search(said) is not None


def last_line(lines: Iterable[str]) -> str:
    """Return the last that says something."""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else ""


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _MOST_IDS] for start in range(0, len(ids), _MOST_IDS))


def _ask(*command: str) -> str:
    ended = _run(*command)
    said = ended.stderr.strip()
    if ended.returncode == 0:
        return ended.stdout
    if is_silence(said):
        raise SilentError(last_line(said.splitlines()))
    raise LabError(f"`{command[0]}` fails: {last_line(said.splitlines()) or f'exit code {ended.returncode}'}")


def _tell(*command: str) -> None:
    """Run a command which fails for jobs that have ended meanwhile."""
    ended = _run(*command)
    if ended.returncode and is_silence(ended.stderr):
        raise SilentError(last_line(ended.stderr.splitlines()))


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise SilentError(f"`{command[0]}` has not answered for {_SECONDS:.0f} s") from None
    except OSError as error:
        raise SilentError(f"`{command[0]}` cannot be run: {error}") from None
