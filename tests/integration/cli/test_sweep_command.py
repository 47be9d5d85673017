from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from lab.tracking import connect
from tests.workers import asleep, forked

Until = Callable[..., None]
PATIENCE = 120  # seconds; a loaded machine is slow
LONG = ("--set", "epochs=60")  # as in the fixture calm_curves


def test_a_sweep_where_nobody_looks(swept: Any) -> None:
    exit_code, stdout, stderr = swept.first
    assert (exit_code, stderr) == (0, "")
    lines = stdout.splitlines()
    assert lines[0] == "tiny: 3 cells queued, 1 excluded (`lab plan` says why)"
    # without how it stands, which a slow machine tells too
    trials = [line for line in lines if re.match("[0-3]/3  ", line)]
    assert trials[0].startswith("1/3  lr=0.01 relu  completed  val_accuracy 0.")
    assert [line[:3] for line in trials] == ["1/3", "2/3", "3/3"]
    assert "tiny: 3 complete" in lines
    assert lines[-1].startswith("Browse it: lab ui, then http://127.0.0.1:5000/#/experiments/")
    assert "\x1b" not in stdout

    again = swept("sweep", "tiny.yaml")
    assert again.stdout.startswith("tiny: 0 cells queued, 3 already in the study (3 done, 0 failed)")
    assert len(swept.runs("tiny")) == 3
    plan = swept("plan", "tiny.yaml")
    assert "3 feasible (3 complete)" in plan.stdout
    assert len(re.findall(r"complete *\n", plan.stdout)) == 3


def test_failed_cells_are_told_by_the_exit_code(swept_with_failures: Any) -> None:
    exit_code, stdout, _ = swept_with_failures.first
    assert exit_code == 1
    assert "tiny: 3 complete, 3 failed" in stdout
    assert "retry them with: lab sweep tiny.yaml --retry-failed" in stdout
    status = swept_with_failures("status", "tiny").stdout
    assert "3 complete, 3 failed" in status
    assert "failed   lr=0.01 relu mnist: MissingDataError: mnist is missing" in status


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["sweep", "nope.yaml"], "nope.yaml: no such file. Did you mean 'tiny.yaml'?"),
        (["sweep"], "Missing argument 'GRID'"),
        (["sweep", "tiny.yaml", "--workers", "0"], "Invalid value for '--workers'"),
        (["sweep", "tiny.yaml", "--gpu-memory", "6"], "--gpu-memory takes a size with its unit, such as 6GB"),
        (["sweep", "tiny.yaml", "--gpu-memory", "6GB", "--workers-per-gpu", "2"], "give only one of them"),
        (["sweep", "tiny.yaml", "--set", "epochs"], "--set takes KEY=VALUE"),
        (["sweep", "tiny.yaml", "--set", "epochs=x"], "epochs: must be a valid integer"),
        (["sweep", "tiny.yaml", "--set", "lr=1"], "--set lr: the grid varies lr"),
        (["sweep", "tiny.yaml", "--set", "epoch=1"], "Did you mean 'epochs'?"),
    ],
)
def test_a_mistake_is_told_once_and_costs_nothing(bare_lab: Any, args: list[str], said: str) -> None:
    result = bare_lab(*args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert not (bare_lab.home / ".lab").exists()


def epochs_done(lab: Any, least: int) -> bool:
    """Return whether a trial has logged so many epochs."""
    found = lab.tracker.find_experiment("tiny")
    runs = lab.tracker.runs(found, tags={"lab.kind": "trial"}) if found else []
    return any(len(lab.tracker.history(run, "train_loss")) >= least for run in getattr(runs, "run_id", []))


@pytest.mark.slow
def test_ctrl_c_stops_and_the_same_command_continues(lab: Any, until: Until, calm_curves: Any) -> None:
    process = lab.start("sweep", "tiny.yaml", "--workers", "2", *LONG)
    until(lambda: epochs_done(lab, 2), "an epoch")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors.split("\n") == [
        "",
        "Stopping: trials checkpoint and return to the queue. Ctrl-C again ends at once.",
        "",
    ]
    assert "Continue with: lab sweep tiny.yaml --workers 2 --set epochs=60\n" in output
    before = lab.runs("tiny")
    assert "KILLED" in set(before["status"]) <= {"KILLED", "FINISHED"}

    result = lab("sweep", "tiny.yaml", "--workers", "2", *LONG)
    assert result.exit_code == 0
    after = lab.runs("tiny")
    assert set(before["run_id"]) <= set(after["run_id"])
    assert after["status"].tolist() == ["FINISHED"] * 3
    assert after["params.patience"].tolist() == ["none"] * 3
    assert after["metrics.epochs"].tolist() == [60] * 3  # patience: none
    assert [lab.curves(run) for run in after["run_id"]] == calm_curves


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_nothing_is_left_running(lab: Any, until: Until) -> None:
    process = lab.start("sweep", "tiny.yaml", "--workers", "1", "--set", "epochs=100000")
    until(lambda: epochs_done(lab, 1), "an epoch")
    (worker,) = forked(by=process.pid)
    with asleep(worker, *(lab.home / ".lab").glob("*.db")):  # so that it cannot stop in good order
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert any("Stopping" in line for line in process.stderr)
        with pytest.raises(psutil.TimeoutExpired, match="timeout"):
            psutil.Process(process.pid).wait(1.5)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Continue with: lab sweep" in output
    assert "Traceback" not in errors
    assert lab.runs("tiny")["status"].tolist() == ["KILLED"]
    assert '"waiting": 3' in lab("status", "tiny", "--format", "json").stdout


@pytest.mark.slow
def test_workers_of_a_killed_sweep_end_and_their_trials_go_on(
    lab: Any, until: Until, calm_curves: Any
) -> None:
    process = lab.start("sweep", "tiny.yaml", "--workers", "2", *LONG)
    until(lambda: epochs_done(lab, 2), "an epoch")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert not alive
    before = lab.runs("tiny")
    assert lab("sweep", "tiny.yaml", "--workers", "2", *LONG).exit_code == 0
    after = lab.runs("tiny")
    assert set(before["run_id"]) <= set(after["run_id"])
    assert after["status"].tolist() == ["FINISHED"] * 3
    assert [lab.curves(run) for run in after["run_id"]] == calm_curves


@pytest.mark.slow
def test_stores_are_named_by_options_or_the_environment(lab: Any) -> None:
    (lab.home / ".lab").rename(lab.home / "stores")
    tracking, storage = (f"sqlite:///{lab.home}/stores/{name}.db" for name in ("mlflow", "optuna"))
    result = lab("sweep", "tiny.yaml", env={"MLFLOW_TRACKING_URI": tracking, "LAB_STORAGE": storage})
    assert result.exit_code == 0
    assert not list((lab.home / ".lab").glob("*.db"))
    assert connect(tracking).find_experiment("tiny") is not None
    assert lab("status", "tiny", "--storage", storage).exit_code == 0
    assert "lr=0.01" in lab("best", "tiny", "--tracking-uri", tracking, "--format", "csv").stdout
    assert "3 feasible (3 complete)" in lab("plan", "tiny.yaml", "--storage", storage).stdout
    assert lab("status", "tiny").exit_code == 1


@pytest.mark.slow
def test_a_sweep_in_a_run_opened_outside_is_linked_to_it(lab: Any) -> None:
    tracker = lab.tracker
    run = tracker.open_run(name="outer", experiment=tracker.experiment("tiny"), tags={})
    assert lab("sweep", "tiny.yaml", env={"MLFLOW_RUN_ID": run.run_id}).exit_code == 0
    assert lab("sweep", "tiny.yaml", env={"MLFLOW_RUN_ID": run.run_id}).exit_code == 1  # it has ended
    (study,) = lab.runs("tiny", kind="study")["run_id"]
    (sweep,) = lab.runs("tiny", kind="sweep").itertuples(index=False)
    assert (sweep.run_id, sweep.name, sweep.status) == (run.run_id, "outer", "FINISHED")
    tags = lab.runs("tiny", kind="sweep").iloc[0]
    assert (tags["tags.lab.study"], tags["tags.lab.study_run"]) == ("tiny", study)
    assert study in tags["tags.mlflow.note.content"]
    assert len(lab.runs("tiny")) == 3
    assert lab("best", "tiny", "--format", "csv").stdout.count("\n") == 4
