"""Where workers run: `--on` with profiles and engines; submitit's local executor stands in for Slurm."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

PROFILES = """
try:
  engine: slurm
  cluster: local
  workers: 2
  time: 10m
"""


@pytest.fixture
def profiled(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`lab` in a folder with a file of profiles, and none at home."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(lab.home / "config"))
    monkeypatch.chdir(lab.home)
    (lab.home / "lab.yaml").write_text(PROFILES)
    return lab


@pytest.mark.slow
def test_a_sweep_through_submitit_ends_with_the_leaderboard_and_no_job_is_left(profiled: Any) -> None:
    result = profiled("sweep", "tiny.yaml", "--on", "try")
    assert result.exit_code == 0, result.output
    assert "tiny: 3 complete\n" in result.stdout
    assert profiled.runs("tiny")["status"].tolist() == ["FINISHED"] * 3
    assert not list(Path(".lab").rglob("*.pkl"))
    assert "running" not in profiled("status", "tiny").stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--on", "tri"], "--on tri: no such profile or engine. Did you mean 'try'? Known: local, slurm, ray, try."),
        (["--on", "try", "--job", "cpus_per_tsk=1"], "--job cpus_per_tsk: Slurm has no such option. Did you mean 'cp"),
        (["--on", "try", "--time", "soon"], "--time: must be a time such as 4h, 90m"),
        (["--on", "try", "--gpus-per-worker", "0.5"], "--gpus-per-worker: must be a whole number, but got 0.5"),
        (["--on", "slurm"], "--on slurm needs the maximum number of workers: --workers N"),
        (["--partition", "gpu"], "--partition: does not apply to this machine: it needs --on slurm"),
        (["--detach"], "--detach is for Slurm. Queue the cells with `lab submit`, and leave a `lab worker` running"),
        (["--on", "try", "--detach"], "--detach is for a real Slurm, not for `cluster: local`."),
        (["--on", "ray", "--workers", "1", "--detach"], "let Ray run their workers: `ray job submit --no-wait -- lab"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_before_anything_is_queued(profiled: Any, args: list[str], said: str) -> None:
    shutil.rmtree(".lab")
    result = profiled("sweep", "tiny.yaml", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert not Path(".lab").exists()


def test_a_worker_takes_the_same_options(profiled: Any) -> None:
    result = profiled("worker", "--on", "try", "--address", "auto")
    assert result.exit_code == 2
    assert "--address: does not apply to Slurm: it is Ray's" in result.stderr


def test_without_slurm_there_is_one_clear_error(profiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(profiled.home))
    result = profiled("sweep", "tiny.yaml", "--on", "slurm", "--workers", "1")
    assert result.exit_code == 1
    assert "Slurm's `sbatch`, " in result.stderr
    assert "cannot be found on this machine's PATH" in result.stderr
    assert profiled("status").stdout.startswith("No studies yet")


def test_profiles_are_read_only_if_they_are_asked_for(profiled: Any) -> None:
    Path("lab.yaml").write_text("[broken")
    assert "lab.yaml:1: " in profiled("sweep", "tiny.yaml", "--on", "slurm", "--workers", "1").stderr
    with chdir(profiled.home):
        assert profiled("sweep", "tiny.yaml", "--only", "lr=0.5").stderr.count("lab.yaml") == 0
