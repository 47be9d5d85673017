"""Slurm's commands, played by scripts that say what the real ones said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.engines.slurm import queue as slurm_queue
from lab.engines.slurm.queue import Job, SilentError
from lab.errors import LabError

Says = Callable[..., None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Return what makes a command say something."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(command: str, out: str = "", error: str = "", code: int = 0) -> None:
        file = folder / command
        file.write_text(f"#!/bin/sh\necho '{out}'\necho '{error}' >&2\nexit {code}\n")
        file.chmod(0o755)

    return make


def test_jobs_and_tasks_of_arrays(says: Says) -> None:
    says("squeue", "7_0|RUNNING|None|n3\n7_1|PENDING|Resources|\n9|COMPLETED|None|n1")
    assert slurm_queue.jobs() == {
        "7_0": Job("RUNNING", "", "n3"),
        "7_1": Job("PENDING", "Resources", ""),
        "9": Job("COMPLETED", "", "n1"),
    }


@pytest.mark.parametrize(
    "said",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
    ],
)
def test_a_controller_that_is_away_is_asked_again_later(says: Says, said: str) -> None:
    says("squeue", error=said, code=1)
    says("scancel", error=said, code=1)
    for call in (slurm_queue.jobs, lambda: slurm_queue.cancel(["7"])):
        with pytest.raises(SilentError, match=said.partition("(")[0]):
            call()


def test_another_error_is_quoted(says: Says) -> None:
    says("squeue", error="squeue: error: Invalid user: 99", code=1)
    with pytest.raises(LabError, match="`squeue` fails: squeue: error: Invalid user: 99"):
        slurm_queue.jobs()


def test_jobs_that_have_ended_cannot_be_cancelled_and_need_not(says: Says) -> None:
    says("scancel", error="scancel: error: Kill job error on job id 7: Invalid job id specified", code=1)
    slurm_queue.cancel(["7"])
    slurm_queue.signal_jobs(["7"], "TERM")


@pytest.mark.parametrize(("said", "code"), [("0:0", 0), ("7:0", 7), ("137:0", -9), ("0:53", -53)])
def test_the_exit_code_of_a_script(says: Says, said: str, code: int) -> None:
    says("scontrol", f"JobId=7 JobState=FAILED ExitCode={said} DerivedExitCode=9:0")
    assert slurm_queue.exit_code("7") == code


def test_the_exit_code_of_a_forgotten_job(says: Says) -> None:
    says("scontrol", error="slurm_load_jobs error: Invalid job id specified", code=1)
    assert slurm_queue.exit_code("7") is None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1-02:03:04", 93784),
        ("2:00", 120),
        ("1:00:00", 3600),
        ("59", 59),
        ("UNLIMITED", None),
        ("INVALID", None),
    ],
)
def test_how_long_a_job_may_run(says: Says, said: str, seconds: float | None) -> None:
    says("squeue", said)
    assert slurm_queue.seconds_left({"SLURM_JOB_ID": "7"}, now=0.0) == seconds


def test_a_task_of_an_array_is_asked_for_alone(tmp_path: Path, says: Says) -> None:
    task = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    assert slurm_queue.id_here(task) == "7_1"
    assert slurm_queue.id_here({"SLURM_JOB_ID": "7"}) == "7"
    assert slurm_queue.id_here({}) is None
    says("squeue")
    (tmp_path / "bin" / "squeue").write_text('#!/bin/sh\n[ "$2" = --jobs=7_1 ] && echo 2:00\n')
    assert slurm_queue.seconds_left(task, now=0.0) == 120


def test_a_newer_slurm_tells_the_job_itself() -> None:
    assert slurm_queue.seconds_left({"SLURM_JOB_END_TIME": "1000"}, now=400.0) == 600


def test_missing_commands_are_named(says: Says) -> None:
    says("srun")
    with pytest.raises(
        LabError, match=r"`sbatch`, `squeue`, `scancel`, `scontrol` cannot be found.*login node"
    ):
        slurm_queue.check_commands()


def test_nodes_and_partitions(says: Says) -> None:
    says("sinfo", "b\na\na")
    assert slurm_queue.hosts("gpu") == slurm_queue.partitions() == ["a", "b"]
