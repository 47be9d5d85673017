from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lab.engines.slurm.ends import how_it_ended, notes_on
from lab.engines.slurm.queue import Job

NAME = "Slurm job 7_1"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "7_1_0_log.out"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("PREEMPTED", "it was preempted"),
        ("NODE_FAIL", "its node failed"),
        ("TIMEOUT", "its time limit was reached"),
        ("BOOT_FAIL", "its node could not be started"),
        ("CANCELLED", "it was cancelled"),
    ],
)
@pytest.mark.parametrize("began", [False, True])
def test_a_place_that_was_taken_away_is_nobodys_fault(state: str, words: str, began: bool, log: Path) -> None:
    exited = how_it_ended(NAME, Job(state, node="n3"), None, log, began=began)
    assert exited.blameless
    assert exited.code == -signal.SIGTERM
    assert exited.error == f"Slurm job 7_1 on node n3: {words}"


def test_a_killed_worker_may_be_to_blame(log: Path) -> None:
    exited = how_it_ended(NAME, Job("FAILED", "NonZeroExitCode", "n3"), -9, log, began=True)
    assert (exited.code, exited.blameless) == (-9, False)
    assert "on node n3: its process was ended by SIGKILL, which the kernel sends when memory" in exited.error
    assert str(log) in exited.error


def test_memory_of_the_job(log: Path) -> None:
    exited = how_it_ended(NAME, Job("OUT_OF_MEMORY", node="n3"), 0, log, began=True)
    assert (exited.code, exited.blameless) == (-9, False)
    assert "ran out of memory (`mem`)" in exited.error


def test_a_worker_that_slurm_has_forgotten(log: Path) -> None:
    exited = how_it_ended(NAME, Job("RUNNING", node="n3"), None, log, began=True)
    assert (exited.code, exited.blameless) == (-9, False)
    assert "gone without a word" in exited.error


def test_a_signal_that_comes_before_the_worker_can_take_any(log: Path) -> None:
    exited = how_it_ended(NAME, Job("FAILED", node="n3"), -signal.SIGTERM, log, began=False)
    assert exited.blameless
    assert "SIGTERM before it began" in exited.error


def test_the_end_of_the_log_says_why_no_worker_began(log: Path) -> None:
    log.write_text(
        "\n".join(
            ["old"] * 20
            + ["ModuleNotFoundError: No module named 'lab'", "srun: error: postgresql://u:secret@h"]
        )
    )
    exited = how_it_ended(NAME, Job("FAILED", node="n3"), 1, log, began=False)
    assert (exited.code, exited.blameless) == (1, False)
    assert "lacks a module: let `python` be" in exited.error
    assert "No module named 'lab'" in exited.error
    assert "secret" not in exited.error
    assert exited.error.count("old") < 20


def test_no_log_means_that_the_node_cannot_see_the_folder(log: Path) -> None:
    exited = how_it_ended(NAME, Job("FAILED", "JobLaunchFailure", "n3"), -53, log, began=False)
    assert exited.code == 1
    assert "the node cannot write there. Start lab in a folder that the nodes share" in exited.error


def test_an_empty_log(log: Path) -> None:
    log.touch()
    exited = how_it_ended(NAME, Job("FAILED", node="n3"), 7, log, began=False)
    assert exited.code == 7
    assert "exit code 7 before a worker began, and logged nothing (`setup`?)" in exited.error


def test_a_job_that_could_never_run(log: Path) -> None:
    exited = how_it_ended(NAME, Job("FAILED", "BadConstraints"), -1, log, began=False)
    assert exited.code == 1
    assert "it never started: no node has what it asks for" in exited.error


def test_notes_count_what_waits_and_runs_of_each_array() -> None:
    waiting = Job("PENDING", "Resources")
    jobs = [
        ("7_0", Job("RUNNING")),
        ("7_1", waiting),
        ("7_2", waiting),
        ("9", None),
        ("8", Job("COMPLETING")),
    ]
    assert notes_on(jobs) == [
        "slurm 7: 2 pending (Resources), 1 running",
        "slurm 9: 1 pending",
        "slurm 8: 1 ending",
    ]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (
            "QOSMaxJobsPerUserLimit",
            "1 pending (QOSMaxJobsPerUserLimit: you run as many jobs as this QOS allows)",
        ),
        (
            "ReqNodeNotAvail, UnavailableNodes:n[1-3]",
            "1 pending (ReqNodeNotAvail: nodes it needs are down, drained or reserved)",
        ),
        ("AssocGrpGRES", "1 pending (AssocGrpGRES: your account is at its limit)"),
        (
            "AssocMaxJobsLimit",
            "1 pending (AssocMaxJobsLimit: you run as many jobs as your account allows)",
        ),
        (
            "AssocMaxCpuPerJobLimit",
            "1 can never start (AssocMaxCpuPerJobLimit: it asks for more than your account may use)",
        ),
        (
            "PartitionConfig",
            "1 can never start (PartitionConfig: it asks for more than any node of the partition has)",
        ),
        ("Priority", "1 pending (Priority)"),
    ],
)
def test_reasons_are_told_in_plain_words(reason: str, said: str) -> None:
    assert notes_on([("7", Job("PENDING", reason))]) == [f"slurm 7: {said}"]
