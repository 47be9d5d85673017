"""The studies' database is away for a while: everybody waits for it, and nothing is missing afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution

from lab.config import Grid, TrialConfig
from lab.engines import Stores, sweep
from lab.errors import LabWarning, StudyError
from lab.study import TrialKey, TrialQueue, faults, open_storage, open_study, requeue_dead, rescue

pytestmark = pytest.mark.postgres
REPOSITORY = Path(__file__).parents[3]
PATIENCE = 180  # seconds; a loaded machine is slow


def make_queue(url: str, stop: Callable[[], bool] = lambda: False) -> TrialQueue:
    storage = open_storage(url, should_stop=stop)
    return open_study(storage, "s", ["maximize"])[0]


def add(queue: TrialQueue, lr: float) -> None:
    queue.add(TrialConfig(lr=lr), f"lr={lr}", {"lr": lr}, {"lr": FloatDistribution(0.001, 10)})


def start_sweep(stores: Stores, file: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lab", "sweep", file, "--workers", "2"],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "LAB_STORAGE": stores.storage,
            "MLFLOW_TRACKING_URI": stores.tracking_uri,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def reported(queue: TrialQueue) -> int:
    return sum(len(trial.intermediate_values) for trial in queue.trials())


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end or process.poll() is not None:
            process.kill()
            pytest.fail(f"it did not happen: {process.communicate()[0]}")
        time.sleep(0.2)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::lab.errors.LabWarning")
def test_a_server_restarted_in_the_middle_of_a_sweep(
    own_postgres: Any, stores: Stores, make_grid: Callable[..., Grid], points: Any, tmp_path: Path
) -> None:
    sweep(make_grid(epochs=25, name="calm"), stores, workers=2)
    stores = replace(stores, storage=own_postgres.database())
    (tmp_path / "tiny.yaml").write_text(make_grid(epochs=25).text)
    process = start_sweep(stores, "tiny.yaml")
    try:
        storage = open_storage(stores.storage)
        wait_for(lambda: "tiny" in optuna.get_all_study_names(storage), process)
        queue = TrialQueue(storage, "tiny")
        for number, mode in enumerate(("fast", "immediate", "immediate"), start=1):
            wait_for(lambda most=20 * number: reported(queue) >= most, process)
            own_postgres.stop(mode)
            time.sleep(3)
            own_postgres.start()
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    assert "cannot be reached: " in output
    assert "Waiting for it, at most 5 minutes" in output
    assert [trial.state.name for trial in queue.trials()] == ["COMPLETE"] * 4  # none was even tried again
    assert [len(trial.intermediate_values) for trial in queue.trials()] == [25] * 4
    found = points(stores.tracking_uri, "tiny")
    assert len(found) == 4
    assert found == points(stores.tracking_uri, "calm")


def test_a_server_that_is_away_for_good_is_told_once(
    own_postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_LONGEST_SECONDS", 1.0)
    queue = make_queue(own_postgres.database())
    own_postgres.stop()
    with (
        pytest.warns(LabWarning, match="cannot be reached: .*Waiting for it") as told,
        pytest.raises(StudyError, match=r"--storage postgresql.*cannot be reached: .*start again when"),
    ):
        queue.waiting()
    assert len(told) == 1
    with pytest.raises(StudyError, match="cannot be reached"):
        queue.waiting()
    own_postgres.start()
    assert queue.waiting() == 0


@pytest.mark.filterwarnings("ignore::lab.errors.LabWarning")
def test_a_stop_ends_the_waiting(own_postgres: Any) -> None:
    began = time.monotonic()
    queue = make_queue(own_postgres.database(), lambda: time.monotonic() > began + 2)
    own_postgres.stop()
    with pytest.raises(StudyError, match="cannot be reached"):
        queue.waiting()


@pytest.mark.filterwarnings("ignore::lab.errors.LabWarning")
def test_a_block_whose_lock_the_server_forgot_is_done_again_from_its_beginning(own_postgres: Any) -> None:
    queue = make_queue(own_postgres.database())
    tries: list[int] = []

    def block() -> None:
        with queue.locked():
            tries.append(len(queue.trials()))
            if len(tries) == 1:
                own_postgres.stop()
                own_postgres.start()
            add(queue, 0.5)

    queue.storage.patiently(block)
    assert tries == [0, 0]
    assert len(queue.trials()) == 1


@pytest.mark.filterwarnings("ignore::lab.errors.LabWarning")
def test_a_worker_elsewhere_that_an_outage_has_silenced_keeps_its_trial(
    own_postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(own_postgres.database())
    add(queue, 0.5)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, TrialKey.WORKER, "another-machine:7:1.00")
    with queue.storage.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE trial_heartbeats SET heartbeat = heartbeat - INTERVAL '61 seconds'")
        )
    own_postgres.stop()
    back = threading.Timer(1.0, own_postgres.start)
    back.start()
    assert queue.waiting() == 0  # waits, as a supervisor does that looks for work meanwhile
    back.join()
    assert requeue_dead(queue) == []
    assert [trial.state.name for trial in queue.trials()] == ["RUNNING"]
    monkeypatch.setattr(rescue, "GRACE_SECONDS", 0.0)  # as if it had been back for that long
    assert requeue_dead(queue) == []
    assert [trial.state.name for trial in queue.trials()] == ["FAIL", "WAITING"]


@pytest.mark.filterwarnings("ignore::lab.errors.LabWarning")
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_every_call_of_a_queue_outlives_a_restart(own_postgres: Any, mode: str) -> None:
    queue = make_queue(own_postgres.database())
    add(queue, 0.5)

    def restart() -> None:
        own_postgres.stop(mode)
        own_postgres.start()

    restart()
    claim = queue.claim()
    assert claim is not None
    restart()
    queue.beat(claim.trial_id)
    restart()
    queue.note_trial(claim.trial_id, "run_id", "r1")
    restart()
    queue.report(claim.trial_id, 1, 0.25)
    restart()
    assert queue.is_mine(claim.trial_id)
    restart()
    assert requeue_dead(queue) == []
    restart()
    queue.complete(claim.trial_id, 0.5)
    restart()
    (trial,) = queue.trials()
    assert (trial.value, trial.user_attrs["lab:run_id"], trial.intermediate_values) == (0.5, "r1", {1: 0.25})
