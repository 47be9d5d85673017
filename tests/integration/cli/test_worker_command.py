"""`submit`, `worker`, `watch`, `cancel`, `resume` and `retry`: a study in the hands of others."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import optuna
import psutil
import pytest

from lab.study import TrialQueue, open_storage
from tests.workers import asleep, forked

Until = Callable[..., None]
LONG = ("--set", "epochs=60")  # as in the fixture calm_curves
PATIENCE = 120  # seconds; a loaded machine is slow


def states(lab: Any, study: str = "tiny") -> str:
    """Return the counts that `lab status` shows."""
    result = lab("status", study, "--format", "json")
    found = re.search(r'"states": \{(.*?)\}', result.stdout, re.DOTALL)
    return " ".join(found[1].split()).replace('"', "") if found and result.exit_code == 0 else ""


def epochs_of(lab: Any) -> int:
    result = lab("status", "tiny", "--format", "json")
    return max(map(int, re.findall(r'"epoch": (\d+)', result.stdout)), default=0)


def test_submit_queues_and_returns(lab: Any) -> None:
    result = lab("submit", "tiny.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "tiny: 3 cells queued, 1 excluded (`lab plan` says why)",
        "Train it with: lab worker   (and watch it with: lab watch tiny)",
    ]
    assert states(lab) == "waiting: 3"
    assert "0 cells queued, 3 already in the study" in lab("submit", "tiny.yaml").stdout
    assert states(lab) == "waiting: 3"


@pytest.mark.slow
def test_a_worker_trains_what_is_submitted_while_it_waits(lab: Any, until: Until) -> None:
    process = lab.start("worker", "--workers", "2")
    assert "waiting for trials of all studies" in process.stdout.readline()
    assert lab("submit", "tiny.yaml").exit_code == 0
    watched = lab("watch", "tiny")
    assert watched.exit_code == 0
    assert "tiny: 3 done, 0 failed" in watched.stdout
    until(lambda: lab.runs("tiny", kind="study")["status"].tolist() == ["FINISHED"], "the study's end")
    assert lab.runs("tiny")["status"].tolist() == ["FINISHED"] * 3
    grown = (lab.home / "tiny.yaml").read_text().replace("[0.01, 0.02]", "[0.01, 0.02, 0.03]")
    (lab.home / "tiny.yaml").write_text(grown)
    assert "2 cells queued, 3 already in the study (3 done, 0 failed)" in lab("submit", "tiny.yaml").stdout
    until(lambda: states(lab) == "complete: 5", "the new cells")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert output.count("  completed  val_accuracy 0.") == 5
    assert lab.tracker.download(lab.runs("tiny", kind="study")["run_id"][0], "leaderboard.csv", lab.home)


@pytest.mark.slow
def test_sigterm_puts_the_running_trial_back_and_another_worker_continues_it(
    lab: Any, until: Until, calm_curves: Any
) -> None:
    lab("submit", "tiny.yaml", *LONG)
    process = lab.start("worker", "--study", "tiny", "--workers", "1")
    until(lambda: epochs_of(lab) >= 2, "an epoch")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert "waiting" in states(lab)
    assert "running" not in states(lab)
    assert "RUNNING" not in set(lab.runs("tiny")["status"])
    assert lab("worker", "--workers", "2", "--idle-exit", "0.5").exit_code == 0
    after = lab.runs("tiny")
    assert after["status"].tolist() == ["FINISHED"] * 3
    assert [lab.curves(run) for run in after["run_id"]] == calm_curves


@pytest.mark.slow
def test_a_cancelled_study_stops_and_resumes(lab: Any, until: Until, calm_curves: Any) -> None:
    lab("submit", "tiny.yaml", *LONG)
    process = lab.start("worker", "--workers", "1")
    until(lambda: epochs_of(lab) >= 2, "an epoch")
    (worker,) = forked(by=process.pid)
    with asleep(
        worker, *(lab.home / ".lab").glob("*.db")
    ):  # it sees at once, or late, that its trial is to stop
        cancelled = lab("cancel", "tiny")
    assert cancelled.exit_code == 0
    assert re.search(r"tiny: 2 waiting trials cancelled, 1 running trial stopping", cancelled.stdout)
    until(lambda: "running" not in states(lab), "the stop")
    assert "cancelled" in states(lab)
    assert lab.runs("tiny", kind="study")["status"].tolist() == ["KILLED"]
    assert "cancelled: resume with `lab resume tiny`" in lab("status", "tiny").stdout
    refused = lab("submit", "tiny.yaml", *LONG)
    assert (refused.exit_code, "Study 'tiny' was cancelled" in refused.stderr) == (1, True)
    assert "cancelled with" in lab("watch", "tiny").stdout
    resumed = lab("resume", "tiny")
    assert re.search(r"tiny: \d trials? waiting", resumed.stdout)
    until(lambda: states(lab) == "complete: 3", "the rest")
    assert process.poll() is None
    assert [lab.curves(run) for run in lab.runs("tiny")["run_id"]] == calm_curves


def test_retry(swept_with_failures: Any) -> None:
    lab = swept_with_failures
    failed = lab.runs("tiny").query("status == 'FAILED'")
    cell = failed["tags.lab.cell"].iloc[0]
    one = lab("retry", "tiny", "--cell", cell[:10])
    assert "tiny: 1 failed cell requeued, 1 waiting in total" in one.stdout
    again = lab("retry", "tiny", "--cell", cell)
    assert again.exit_code == 1
    assert f"Cell {cell} of study 'tiny' is waiting; only failed cells can be retried" in again.stderr
    assert "2 failed cells requeued, 3 waiting" in lab("retry", "tiny", "--failed").stdout
    assert "0 failed cells requeued" in lab("retry", "tiny").stdout
    assert "has no cell 'xyz'" in lab("retry", "tiny", "--cell", "xyz").stderr
    assert lab("retry", "tiny", "--cell", "x", "--failed").exit_code == 2


def test_a_killed_workers_trial_shows_at_once(lab: Any, until: Until) -> None:
    lab("submit", "tiny.yaml")
    queue = TrialQueue(open_storage(f"sqlite:///{lab.home}/.lab/optuna.db"), "tiny")
    claim = queue.claim()
    assert claim is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        created = psutil.Process(process.pid).create_time()
        worker = f"{socket.gethostname()}:{process.pid}:{created:.2f}"
        queue.note_trial(claim.trial_id, "worker", worker)
        queue.report(claim.trial_id, 1, 0.5)
        assert "running  lr=0.01 relu: epoch 1/2, val_accuracy 0.5000" in lab("status", "tiny").stdout
        process.kill()
        killed = psutil.Process(process.pid)
        until(lambda: killed.status() == psutil.STATUS_ZOMBIE, "its end")
        status = lab("status", "tiny").stdout  # killed, though nobody has reaped it yet
    assert status.startswith("tiny: 1 interrupted, 2 waiting\n")
    assert f"interrupted  lr=0.01 relu: epoch 1/2, its worker {worker} has exited" in status
    assert status == lab("status", "tiny").stdout
    assert "tiny: 3 trials waiting, 1 of them requeued; 0 running" in lab("resume", "tiny").stdout


def test_ctrl_c_ends_only_the_watching(lab: Any, until: Until) -> None:
    lab("submit", "tiny.yaml")
    process = lab.start("watch", "tiny")
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    if process.returncode == 130:  # it had begun to watch
        assert "No longer watching; the study continues." in errors
    assert states(lab) == "waiting: 3"


@pytest.mark.parametrize(
    "command", [["worker", "--study"], ["watch"], ["cancel"], ["resume"], ["retry"]], ids=" ".join
)
def test_an_unknown_study_is_told_with_the_nearest_name(swept: Any, command: list[str]) -> None:
    result = swept(*command, "tinny")
    assert result.exit_code == 1
    assert "There is no study 'tinny'. Did you mean 'tiny'? Known studies: tiny" in result.stderr


@pytest.mark.slow
def test_submit_of_a_grid_that_needs_another(lab: Any) -> None:
    base = "dataset: synthetic, image_size: 8, filters: [4, 4], norm: batch, batch_size: 256, epochs: 2, patience: none"
    (lab.home / "source.yaml").write_text(f"base: {{{base}}}\ngrid: {{lr: [0.000001, 0.01]}}\n")
    small = f"needs: source.yaml\nbase: {{{base}}}\ngrid: {{init_from: [none, best:source]}}\n"
    (lab.home / "small.yaml").write_text(small)
    assert lab("submit", "small.yaml").stdout.splitlines()[:2] == [
        "source: 2 cells queued",
        "small: 2 cells queued",
    ]
    assert lab("worker", "--study", "small", "--idle-exit", "3").exit_code == 0
    assert states(lab, "small") == "waiting: 2"  # not begun: what it needs is not done
    output = lab("worker", "--workers", "2", "--idle-exit", "3").stdout
    assert states(lab, "small") == states(lab, "source") == "complete: 2"
    order = re.findall(r"(source|small)  .* started", output)
    assert order == ["source", "source", "small", "small"]


@pytest.mark.slow
def test_a_worker_all_of_whose_work_breaks_down_says_so_and_trains_what_is_well(lab: Any) -> None:
    lab("submit", "tiny.yaml")
    with closing(sqlite3.connect(lab.home / ".lab" / "optuna.db")) as database, database:
        database.execute(
            "UPDATE trial_user_attributes SET value_json = '{\"lr\": -1}' WHERE key = 'lab:config'"
        )
    optuna.create_study(study_name="another program's", storage=f"sqlite:///{lab.home}/.lab/optuna.db").ask()
    result = lab("worker", "--idle-exit", "1", "--workers", "1")
    assert result.exit_code == 1
    assert "All of the work failed: could not work on tiny" in result.stderr
    assert "cannot be read: lr: " in result.stderr
    assert states(lab) == "waiting: 3"
    (lab.home / "well.yaml").write_text((lab.home / "tiny.yaml").read_text().replace("tiny", "well"))
    lab("submit", "well.yaml")
    assert lab("worker", "--idle-exit", "5", "--workers", "1").exit_code == 0
    assert states(lab, "well") == "complete: 3"
    shown = lab("status").stdout
    assert re.search(r"^tiny +waiting +0/3 ", shown, re.MULTILINE)
    assert "not lab's: another program's" in shown
