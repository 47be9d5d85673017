"""What is submitted, to an `sbatch` that keeps the script, or refuses it in the real one's words."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lab.engines import Stores
from lab.engines.devices import Device
from lab.engines.launcher import Exited
from lab.engines.node import Origin
from lab.engines.seats import Seat
from lab.engines.slurm import detached
from lab.engines.slurm import jobs as slurm_jobs
from lab.engines.slurm import launcher as launching
from lab.engines.slurm.detached import submit_detached
from lab.engines.slurm.jobs import SlurmJobs
from lab.engines.slurm.launcher import SlurmLauncher, stop_delay
from lab.engines.slurm.queue import SilentError
from lab.errors import ConfigError, LabError

Says = Callable[..., None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Return what makes `sbatch` say something; the scripts that it is given go to `scripts/`."""
    folder, scripts = tmp_path / "bin", tmp_path / "scripts"
    folder.mkdir()
    scripts.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(command: str, out: str = "", error: str = "", code: int = 0) -> None:
        file = folder / command
        keep = f'cat "$1" >> {scripts}/script 2>/dev/null' if command == "sbatch" else ""
        file.write_text(f"#!/bin/sh\n{keep}\necho '{out}'\necho '{error}' >&2\nexit {code}\n")
        file.chmod(0o755)

    for command in ("srun", "squeue", "scancel", "scontrol", "sinfo"):
        make(command)
    make("sbatch", "Submitted batch job 7")
    return make


def submitted(
    tmp_path: Path, options: dict[str, Any], count: int = 1, *, requeue: bool = False
) -> tuple[list[str], str]:
    jobs = SlurmJobs(tmp_path / "slurm" / "now", options, requeue=requeue)
    ids = list(jobs.submit("lab-tiny", print, list(range(count))))
    return ids, (tmp_path / "scripts" / "script").read_text()


def test_several_are_one_array_with_the_python_of_the_profile(says: Says, tmp_path: Path) -> None:
    ids, script = submitted(tmp_path, {"python": "apptainer run lab.sif python", "partition": "gpu"}, 3)
    assert ids == ["7_0", "7_1", "7_2"]
    assert "#SBATCH --array=0-2%3" in script
    assert "#SBATCH --partition=gpu" in script
    assert " apptainer run lab.sif python -u -m submitit.core._submit " in script
    assert script.count("#!/bin/bash") == 1


def test_a_single_one_is_a_plain_job_without_a_time_of_submitits(says: Says, tmp_path: Path) -> None:
    ids, script = submitted(tmp_path, {})
    assert ids == ["7"]
    assert "#SBATCH --no-requeue" in script
    for word in ("--array", "--time", "--wckey"):
        assert word not in script


def test_options_of_the_user_come_first(says: Says, tmp_path: Path) -> None:
    options = {
        "time": 240,
        "exclusive": False,
        "additional_parameters": {"nice": 100},
        "setup": ["module load cuda"],
    }
    _, script = submitted(tmp_path, options, requeue=True)
    assert "#SBATCH --time=240" in script
    assert "#SBATCH --nice=100" in script
    assert "#SBATCH --requeue" in script
    assert "\nmodule load cuda\n" in script
    assert "exclusive" not in script


def test_without_srun_the_script_outlives_its_workers_signals(says: Says, tmp_path: Path) -> None:
    _, script = submitted(tmp_path, {"use_srun": False, "setup": ["module load cuda"]})
    assert "\ntrap '' TERM USR2\nmodule load cuda\n" in script
    assert "srun --unbuffered" not in script


def test_only_the_owner_sees_what_is_submitted(says: Says, tmp_path: Path) -> None:
    submitted(tmp_path, {})
    assert stat.S_IMODE((tmp_path / "slurm" / "now").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "sbatch: error: invalid partition specified: btch\nsbatch: error: Batch job submission failed: Invalid "
            "partition name specified",
            r"invalid partition specified: btch; .* Did you mean .batch.\? The partitions are batch, urgent",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            "Check `account` and `qos`: `sacctmgr",
        ),
        ("sbatch: error: Invalid qos specification", "Check `account` and `qos`"),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "Ask for less, or in another partition",
        ),
        ("sbatch: error: Invalid generic resource (gres) specification", "Ask for less"),
        (
            "sbatch: unrecognized option --nonsense",
            "unrecognized option --nonsense. Check the options of the profile",
        ),
        (
            "sbatch: error: Requested time limit is invalid (missing or exceeds some limit)",
            "Check `time`",
        ),
    ],
)
def test_a_refusal_quotes_slurm_and_says_what_to_change(
    says: Says, tmp_path: Path, said: str, advice: str
) -> None:
    says("sinfo", "batch\nurgent")
    says("sbatch", error=said, code=1)
    with pytest.raises(LabError, match=f"Slurm refuses the job: .*{advice}"):
        submitted(tmp_path, {})
    assert list((tmp_path / "slurm" / "now").iterdir()) == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "Unable to contact",
        ),
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            "Socket timed out",
        ),
        (
            "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
            "accounting/QOS policy (job submit limit, user size and/or time limits)",
            r"as many jobs queued as Slurm allows \(QOSMaxSubmitJobPerUserLimit\)",
        ),
    ],
)
def test_what_passes_is_waited_for(says: Says, tmp_path: Path, said: str, reason: str) -> None:
    says("sbatch", error=said, code=1)
    with pytest.raises(SilentError, match=reason):
        submitted(tmp_path, {})


@pytest.fixture
def refuses(says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A Slurm that takes two jobs in an array, and refuses the second array once; returns what it has taken."""
    monkeypatch.setattr(slurm_jobs, "_MOST_IN_ARRAY", 2)
    taken = tmp_path / "taken"
    taken.touch()
    (tmp_path / "bin" / "sbatch").write_text(
        f"""#!/bin/sh
number=$(wc -l < {taken})
if [ "$number" = 1 ] && mkdir {tmp_path}/refused 2>/dev/null; then
    echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
    exit 1
fi
grep -o "array=.*" "$1" >> {taken} || echo single >> {taken}
echo "Submitted batch job $((number + 7))"
"""
    )
    return lambda: taken.read_text().splitlines()


def test_workers_whose_array_was_taken_are_not_submitted_again(
    refuses: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_RETRY_SECONDS", 0.0)
    launcher = SlurmLauncher(tmp_path / "slurm", 3, {}, Origin.here())
    for _ in range(3):
        launcher.start(Stores().for_worker("tiny"), Seat(Device("cpu"), Fraction(1)))
    list(launcher.listen(0.0))
    assert refuses() == ["array=0-1%2"]
    assert launcher.notes()[0] == "slurm 7: 2 pending"
    assert "Socket timed out" in launcher.notes()[1]
    list(launcher.listen(0.0))
    assert refuses() == ["array=0-1%2", "single"]
    assert {worker.job for worker in launcher._workers.values()} == {"7_0", "7_1", "8"}


def test_detached_jobs_whose_array_was_taken_are_not_submitted_again(
    refuses: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "_RETRY_SECONDS", 0.0)
    ids = submit_detached(tmp_path / "slurm", 3, {}, Origin.here(), Stores(), ["tiny"])
    assert ids == ["7_0", "7_1", "8"]
    assert refuses() == ["array=0-1%2", "single"]


def test_a_job_does_not_pass_its_own_place_on(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.write_text(f"#!/bin/sh\nenv | grep SLURM_ > {tmp_path}/environment\necho Submitted batch job 7\n")
    list(SlurmJobs(tmp_path / "slurm", {}).submit("lab-tiny", print, [1]))
    assert (tmp_path / "environment").read_text() == "SLURM_CONF=/etc/slurm.conf\n"


def test_workers_are_killed_before_their_jobs_are_cancelled(says: Says, tmp_path: Path) -> None:
    scancel = tmp_path / "bin" / "scancel"
    scancel.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    SlurmJobs(tmp_path / "slurm", {}).kill(["7_0", "7_1"])
    assert (tmp_path / "said").read_text().splitlines() == [
        "--state=RUNNING --signal=KILL 7_0.0 7_1.0",  # of a job as a whole, Slurm makes a SIGTERM of it
        "7_0 7_1",
    ]


def test_a_folder_that_cannot_be_made(says: Says, tmp_path: Path) -> None:
    (tmp_path / "slurm").write_text("a file")
    with pytest.raises(LabError, match=r"Jobs cannot be prepared in .*now: (File exists|Not a directory)"):
        submitted(tmp_path, {})


def test_an_option_that_submitit_does_not_know(says: Says, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"An option of the jobs cannot be used: .*partiton"):
        SlurmJobs(tmp_path, {"partiton": "gpu"})


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 90),
        ({"time": 0}, 90),
        ({"time": 1}, 15),
        ({"time": 5}, 30),
        ({"time": 240}, 90),
        ({"time": 240, "signal_delay_s": 300}, 300),
        ({"signal_delay_s": 20}, 20),
    ],
)
def test_how_long_before_its_end_a_worker_stops(options: dict[str, int], seconds: float) -> None:
    assert stop_delay(options) == seconds


def test_a_delay_that_leaves_no_time_to_work() -> None:
    with pytest.raises(ConfigError, match=r"signal_delay_s=90: .* only 2 min \(`time`\). Give at most half"):
        stop_delay({"time": 2, "signal_delay_s": 90})


def test_devices_of_a_cluster(says: Says, tmp_path: Path) -> None:
    launcher = SlurmLauncher(tmp_path, 3, {}, Origin.here(), gpus=True)
    assert [device.name for device in launcher.devices()] == ["gpu-0", "gpu-1", "gpu-2"]
    (cpu,) = SlurmLauncher(tmp_path, 3, {}, Origin.here()).devices()
    assert (cpu.name, cpu.workers) == ("cpu", 3)


def ended(says: Says, folder: Path, code: int) -> SlurmLauncher:
    """Return a launcher whose only job has failed with an exit code."""
    says("squeue", "7|FAILED|NonZeroExitCode|n1")
    says("scontrol", f"JobId=7 JobState=FAILED ExitCode={code}:0")
    launcher = SlurmLauncher(folder, 1, {}, Origin.here())
    launcher.start(Stores().for_worker("tiny"), Seat(Device("cpu"), Fraction(1)))
    return launcher


def heard(launcher: SlurmLauncher, seconds: float) -> list[Exited]:
    end = time.monotonic() + seconds
    said: list[Exited] = []
    while not said and time.monotonic() < end:
        said = [event for _, event in launcher.listen(0.1) if isinstance(event, Exited)]
    return said


def test_whom_a_signal_ended_has_no_last_line_to_wait_for(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_SOON_SECONDS", 0.2)
    monkeypatch.setattr(SlurmJobs, "late_seconds", 1000.0)
    (exited,) = heard(ended(says, tmp_path / "slurm", 137), 60)
    assert exited.code == -9
    assert "on node n1: its process was ended by SIGKILL" in exited.error


def test_the_last_line_of_a_worker_that_failed_may_come_late(
    says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_SOON_SECONDS", 0.2)
    launcher = ended(says, tmp_path / "slurm", 1)
    assert not heard(launcher, 2)
    (lines,) = (tmp_path / "slurm").rglob("*.jsonl")
    lines.write_text(json.dumps([1, {"exited": 1, "error": "the disk is full"}]) + "\n")
    assert heard(launcher, 60) == [Exited(1, "the disk is full")]
