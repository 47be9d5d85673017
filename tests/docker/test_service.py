"""What a team relies on: a grid survives kills, stops and restarts, and a backup contains all of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from .conftest import CELLS, WORKERS, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]


def trials(stack: Stack, study: str) -> list[Any]:
    return [run for run in stack.runs(study) if run.data.tags.get("lab.kind") == "trial"]


def everything(stack: Stack, study: str) -> dict[str, Any]:
    """Every run with all its data, by id."""
    client = stack.client
    return {
        run.info.run_id: {
            "name": run.info.run_name,
            "status": run.info.status,
            "params": run.data.params,
            "tags": run.data.tags,
            "history": {
                metric: [
                    (point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)
                ]
                for metric in ("val_accuracy", "train_loss")
            },
            "metrics": {name: str(value) for name, value in run.data.metrics.items()},
            "artifacts": files(client, run.info.run_id),
        }
        for run in stack.runs(study)
    }


def files(client: MlflowClient, run_id: str, folder: str = "") -> dict[str, int]:
    found: dict[str, int] = {}
    for info in client.list_artifacts(run_id, folder or None):
        found |= files(client, run_id, info.path) if info.is_dir else {info.path: info.file_size}
    return found


def test_nothing_is_lost_and_nothing_twice(stack: Stack, study: str) -> None:
    assert stack.states(study) == {"complete": CELLS}
    runs = stack.runs(study)
    assert Counter(run.info.status for run in runs) == {"FINISHED": CELLS + 1}
    assert len({run.data.tags["lab.cell"] for run in trials(stack, study)}) == CELLS
    for run in trials(stack, study):
        points = stack.client.get_metric_history(run.info.run_id, "val_accuracy")
        assert sorted(point.step for point in points) == [1, 2, 3], run.info.run_name
    assert not stack.lab("status").stdout.count("Not delivered")


def test_workers_share_the_trials(stack: Stack, study: str) -> None:
    hosts = Counter(run.data.tags["lab.host"] for run in trials(stack, study))
    assert len(hosts) == WORKERS


def test_submitting_again_queues_nothing(stack: Stack, study: str) -> None:
    again = stack.lab("submit", "grids/quickstart.yaml", "--set", "epochs=3")
    assert again.returncode == 0
    assert "Nothing is left to train" in again.stdout


def test_watch_and_best(stack: Stack, study: str) -> None:
    assert "24 done, 0 failed" in stack.lab("watch", study).stdout
    assert "completed" in stack.lab("best", study).stdout


LONG = """
name: long
base: {dataset: digits, width: 32, epochs: 400, patience: none}
grid: {lr: [0.01]}
"""


def test_docker_stop_puts_trials_back_within_the_grace_period(stack: Stack) -> None:
    (stack.folder / "grids" / "long.yaml").write_text(LONG)
    submitted = stack.lab("submit", "grids/long.yaml")
    assert submitted.returncode == 0, submitted.stderr
    stack.wait(lambda: stack.states("long") == {"running": 1}, "the long trial")
    time.sleep(5)
    began = time.monotonic()
    stack.compose("stop", "worker")
    assert time.monotonic() - began < 30
    codes = {
        stack.docker("inspect", "--format", "{{.State.ExitCode}}", stack.container("worker", number)).strip()
        for number in range(1, WORKERS + 1)
    }
    assert codes == {"143"}  # 128 + SIGTERM, not SIGKILL's 137
    assert stack.states("long") == {"waiting": 1}
    (run,) = trials(stack, "long")
    assert run.info.status == "KILLED"
    assert "checkpoints/last.pt" in files(stack.client, run.info.run_id)
    assert stack.lab("cancel", "long").returncode == 0
    stack.up()


def test_a_backup_is_whole_and_goes_into_an_empty_stack_only(
    stack: Stack, study: str, tmp_path: Path
) -> None:
    before = everything(stack, study)
    states = stack.states(study)
    folder = tmp_path / "backup"
    for day in ("2026-01-01T00-00-00Z", "2026-01-02T00-00-00Z", "not a backup"):
        (tmp_path / day).mkdir()
    saved = stack.make("backup", f"TO={folder}", "KEEP=1")
    assert saved.returncode == 0, saved.stderr
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert {file.name for file in tmp_path.iterdir()} == {"backup", "2026-01-02T00-00-00Z", "not a backup"}

    refused = stack.make("restore", f"FROM={folder}")
    assert refused.returncode != 0
    assert "a backup replaces nothing" in refused.stderr
    assert everything(stack, study) == before

    stack.compose("down", "--volumes")
    restored = stack.make("restore", f"FROM={folder}")
    assert restored.returncode == 0, restored.stderr
    assert everything(stack, study) == before
    assert stack.states(study) == states


def test_a_damaged_backup_is_refused(stack: Stack, tmp_path: Path) -> None:
    for name in ("lab.dump", "mlflow.dump", "artifacts.tar"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  lab.dump\n")
    refused = stack.make("restore", f"FROM={tmp_path}")
    assert refused.returncode != 0
    assert "lab.dump" in refused.stdout + refused.stderr


def test_down_and_up_keeps_everything(stack: Stack, study: str) -> None:
    before = everything(stack, study)
    stack.compose("down")
    stack.up()
    assert everything(stack, study) == before
    assert stack.states(study)["complete"] == CELLS


def test_doctor_is_content(stack: Stack, study: str) -> None:
    told = stack.lab("doctor", "--format", "json")
    findings = json.loads(told.stdout)
    assert [one for one in findings if one["verdict"] == "failed"] == []
    assert told.returncode == 0


def test_gc_frees_what_a_deleted_run_kept(stack: Stack) -> None:
    trained = stack.lab("train", "--dataset", "digits", "--epochs", "1", "--experiment", "to be deleted")
    assert trained.returncode == 0, trained.stderr
    (run,) = stack.runs("to be deleted")
    stack.client.delete_run(run.info.run_id)
    promised = json.loads(stack.lab("gc", "--older-than", "0", "--format", "json").stdout)
    assert run.info.run_id in {each["where"] for each in promised["garbage"]}
    assert files(stack.client, run.info.run_id)
    freed = stack.lab("gc", "--older-than", "0", "--delete", "--format", "json")
    assert freed.returncode == 0, freed.stderr
    assert json.loads(freed.stdout) == {**promised, "deleted": True}
    assert files(stack.client, run.info.run_id) == {}
