from __future__ import annotations

import time
from pathlib import Path

import pytest

from lab.engines import Stores
from lab.engines.slurm.event_files import EventReader
from lab.engines.slurm.launcher import _Worker
from lab.engines.slurm.queue import Job


@pytest.fixture
def worker(tmp_path: Path) -> _Worker:
    return _Worker(
        Stores().for_worker("tiny"), None, EventReader(tmp_path / "lines"), "7", submitted=time.monotonic()
    )


def test_a_job_that_is_not_listed_yet_is_pending(worker: _Worker) -> None:
    for _ in range(3):
        worker.look(None)
    assert worker.is_pending
    assert worker.ended is None


def test_a_job_that_ended_while_nobody_looked_is_gone(worker: _Worker) -> None:
    worker.look(Job("RUNNING", node="n1"))
    assert not worker.is_pending
    worker.look(None)
    assert worker.ended is None  # a controller that has just begun may not know it yet
    worker.look(None)
    assert worker.ended is not None
    assert worker.seen == Job("RUNNING", node="n1")


def test_a_job_that_was_never_seen_is_gone_after_a_while(worker: _Worker) -> None:
    worker.submitted -= 100
    worker.look(None)
    worker.look(None)
    assert worker.ended is not None


def test_a_job_that_is_back_has_not_ended(worker: _Worker) -> None:
    worker.look(Job("RUNNING"))
    worker.look(None)
    worker.look(None)
    worker.look(Job("RUNNING"))
    assert worker.ended is None
    worker.look(Job("COMPLETED"))
    assert worker.ended is not None
