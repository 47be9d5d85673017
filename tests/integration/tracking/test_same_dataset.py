"""Workers that record the same new dataset at the same moment: MLflow's own look-then-insert fails for all but one."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from lab.tracking import connect, prepare

ROUNDS = 10


def record(uri: str, barrier: Any, done: Any) -> None:
    tracker = connect(uri)
    experiment = tracker.experiment("x")
    for number in range(ROUNDS):
        run = tracker.open_run(name="", experiment=experiment, tags={})
        barrier.wait()
        run.log_dataset(
            "d", digest=str(number), source="s", shape=[1, 8, 8], classes=["a"], images={"train": 1}
        )
    done.put(ROUNDS)


@pytest.mark.slow
def test_all_of_them_record_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    prepare(uri)
    connect(uri, tmp_path).experiment("x")
    context = multiprocessing.get_context("forkserver")
    barrier, done = context.Barrier(3, timeout=150), context.Queue()
    processes = [context.Process(target=record, args=(uri, barrier, done)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
