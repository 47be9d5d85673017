"""A worker whose trials run out of memory, and one whose study cannot be trained."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState

from lab import registry
from lab.config import parse_grid
from lab.study import (
    EpochEnded,
    Event,
    TrialEnded,
    TrialKey,
    TrialQueue,
    WorkerFailed,
    WorkerSettings,
    feasible_cells,
    open_storage,
    pulse,
    requeue_dead,
    submit,
    work,
    worker,
)
from lab.tracking import RunStatus, connect
from tests.servers import dead_port

GRID = """
name: s
base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 256, epochs: 3, loss: hungry}
grid: {lr: [0.01]}
"""


class Hungry(torch.nn.Module):
    """A loss that runs out of memory in the second epoch of `GRID`, as often as `failures` says."""

    failures = 0
    steps = 0

    def __init__(self, *_images: object, **_options: object) -> None:
        super().__init__()

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        Hungry.steps += 1
        if Hungry.steps > 9 and Hungry.failures:
            Hungry.failures, Hungry.steps = Hungry.failures - 1, 0
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return torch.nn.functional.cross_entropy(logits, labels)


@pytest.fixture(autouse=True)
def _hungry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry.losses, "_entries", dict(registry.losses._entries))
    registry.losses.register("hungry", Hungry)
    yield
    Hungry.failures = Hungry.steps = 0


@pytest.fixture
def settings(url: str, tracking_uri: str, tmp_path: Path) -> WorkerSettings:
    settings = WorkerSettings("s", url, tracking_uri, tmp_path / "artifacts", tmp_path / "checkpoints")
    grid = parse_grid(GRID, "s.yaml")
    submit(grid, feasible_cells(grid), open_storage(url), connect(tracking_uri, tmp_path / "artifacts"))
    return settings


def worked(settings: WorkerSettings) -> list[TrialEnded]:
    events: list[Event] = []
    work(settings, events.append, lambda: False)
    assert not [event for event in events if isinstance(event, WorkerFailed)]
    return [event for event in events if isinstance(event, TrialEnded)]


def queue_of(settings: WorkerSettings) -> TrialQueue:
    return TrialQueue(open_storage(settings.storage), "s")


def test_out_of_memory_on_a_shared_gpu_is_retried_once_alone(settings: WorkerSettings) -> None:
    Hungry.failures = 1
    (ended,) = worked(replace(settings, alone=False))
    assert ended.outcome == "killed"
    assert "allocate 2.00 GiB" in ended.error
    assert "to be retried with a GPU to itself" in ended.error
    queue = queue_of(settings)
    assert (list(queue.states().values()), queue.waiting_alone()) == (["waiting"], 1)
    assert worked(replace(settings, alone=False)) == []
    (again,) = worked(settings)
    assert (again.number, again.outcome) == (ended.number, "completed")
    tracker = connect(settings.tracking_uri)
    runs = tracker.runs(tracker.experiment("s"), tags={"lab.kind": "trial"})
    assert runs["status"].tolist() == ["FINISHED"]  # the same run, continued
    assert queue.records()[0].epoch == 3


def test_out_of_memory_with_a_gpu_to_itself_fails_the_trial(settings: WorkerSettings) -> None:
    Hungry.failures = 2
    assert [ended.outcome for ended in worked(replace(settings, alone=False))] == ["killed"]
    (failed,) = worked(settings)
    assert failed.outcome == "failed"
    assert failed.error.startswith("OutOfMemoryError: The device has too little memory")
    (record,) = queue_of(settings).records()
    assert (record.state, record.failure) == ("failed", failed.error)


def test_a_trial_that_a_user_ends_is_pruned_after_its_epoch(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 0.02)
    queue, seen, looked = queue_of(settings), list[Event](), threading.Event()

    def note(pulse: pulse.Pulse, name: str, value: object) -> None:
        object.__setattr__(pulse, name, value)
        if name == "stopped" and value:
            looked.set()

    monkeypatch.setattr(pulse.Pulse, "__setattr__", note)

    def emit(event: Event) -> None:
        seen.append(event)
        if isinstance(event, EpochEnded) and event.epoch == 1:
            queue.stop(queue.records()[0].trial_id)
            assert looked.wait(60)

    work(settings, emit, lambda: False)
    assert [event.outcome for event in seen if isinstance(event, TrialEnded)] == ["pruned"]
    (record,) = queue.records()
    assert (record.state, record.epoch, record.outcome) == ("pruned", 1, "pruned")
    tracker = connect(settings.tracking_uri)
    run = tracker.record(record.run_id or "")
    assert (run.status, run.tags["lab.outcome"], "test_accuracy" in run.metrics) == (
        "KILLED",
        "pruned",
        False,
    )


def test_a_worker_gives_way_to_a_study_of_higher_priority_between_two_trials(
    settings: WorkerSettings,
) -> None:
    tracker = connect(settings.tracking_uri, settings.artifact_dir)
    more = GRID.replace("[0.01]", "[0.01, 0.02, 0.03]").replace("epochs: 3", "epochs: 1")
    for text in (more, more.replace("name: s", "name: t\npriority: 1")):
        grid = parse_grid(text, "s.yaml")
        submit(grid, feasible_cells(grid), open_storage(settings.storage), tracker)
    assert len(worked(replace(settings, rivals=()))) == 1  # the first is begun in any case
    assert len(worked(replace(settings, rivals=["t"]))) == 1
    assert (
        len(worked(replace(settings, rivals=["s"]))) == 2
    )  # the fixture's has three epochs, and is another cell
    assert len(worked(replace(settings, study="t", rivals=()))) == 3


def test_a_study_that_lacks_what_training_needs_is_one_error(settings: WorkerSettings) -> None:
    queue_of(settings).note("monitor", 3)
    events: list[Event] = []
    work(settings, events.append, lambda: False)
    (failed,) = events
    assert isinstance(failed, WorkerFailed)
    assert "'s' cannot be trained: its attribute 'monitor' is missing or malformed" in failed.error


def died_before_it_noted_its_run(settings: WorkerSettings) -> TrialQueue:
    """Let a worker have claimed the trial and died at once; return the queue, in which the trial waits again."""
    queue = queue_of(settings)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, TrialKey.WORKER, f"{socket.gethostname()}:{os.getpid()}:0.00")
    assert requeue_dead(queue) == []
    return queue


def run_to_continue(settings: WorkerSettings, queue: TrialQueue) -> str | None:
    """Return the run with which the next worker goes on."""
    claim = queue.claim()
    assert claim is not None
    tracker = connect(settings.tracking_uri, settings.artifact_dir, settings.journal_dir)
    attempt = worker._Attempt(claim, queue, tracker, settings, lambda event: None, lambda: False)
    return attempt._run_to_continue("s")


def test_a_trial_whose_worker_died_early_begins_a_run_anew_while_the_store_is_away(
    settings: WorkerSettings, tmp_path: Path
) -> None:
    queue = died_before_it_noted_its_run(settings)
    away = f"http://127.0.0.1:{dead_port()}"
    settings = replace(settings, tracking_uri=away, journal_dir=tmp_path / "journal")
    assert run_to_continue(settings, queue) is None


@pytest.mark.parametrize(
    ("status", "outcome", "continued"),
    [
        (RunStatus.RUNNING, None, True),
        (RunStatus.KILLED, "killed", True),
        (RunStatus.FINISHED, "completed", False),
        (RunStatus.FINISHED, None, False),
        (RunStatus.KILLED, "pruned", False),
        (RunStatus.FAILED, "failed", False),
    ],
)
def test_only_a_run_that_has_not_ended_by_itself_is_continued_as_one_that_a_dead_worker_left(
    settings: WorkerSettings, status: RunStatus, outcome: str | None, *, continued: bool
) -> None:
    """One that has may be of a study of the same name that was deleted."""
    tracker = connect(settings.tracking_uri, settings.artifact_dir)
    queue = died_before_it_noted_its_run(settings)
    (record,) = queue.records(TrialState.WAITING)
    tags = {"lab.study": "s", "lab.kind": "trial", "lab.cell": record.cell}
    run = tracker.open_run(name="lr=0.01", experiment=tracker.experiment("s"), tags=tags)
    if outcome is not None:
        run.set_tags({"lab.outcome": outcome})
    if status is not RunStatus.RUNNING:
        run.end(status)
    assert (run_to_continue(settings, queue) == run.run_id) is continued


@pytest.fixture
def without_data(url: str, tracking_uri: str, tmp_path: Path) -> WorkerSettings:
    """A study of data that this machine does not have."""
    text = (
        "name: s\nbase: {dataset: mnist, data_dir: /nowhere, depth: 1, epochs: 1}\ngrid: {lr: [0.01, 0.02]}"
    )
    grid = parse_grid(text, "s.yaml")
    submit(grid, feasible_cells(grid), open_storage(url), connect(tracking_uri, tmp_path / "artifacts"))
    return WorkerSettings("s", url, tracking_uri, tmp_path / "artifacts", tmp_path / "checkpoints")


def test_data_that_a_node_lacks_is_the_nodes_fault(without_data: WorkerSettings) -> None:
    events: list[Event] = []
    work(replace(without_data, node="gpu7"), events.append, lambda: False)
    (failed,) = [event for event in events if isinstance(event, WorkerFailed)]
    assert failed.error.startswith("Node gpu7: mnist is missing: /nowhere/MNIST/raw does not contain ")
    assert list(queue_of(without_data).states().values()) == ["waiting"] * 2
    tracker = connect(without_data.tracking_uri)
    assert tracker.runs(tracker.experiment("s"), tags={"lab.kind": "trial"}).empty


def test_data_that_no_engine_has_chosen_a_machine_for_fails_its_trials_alone(
    without_data: WorkerSettings,
) -> None:
    assert [ended.outcome for ended in worked(without_data)] == ["failed"] * 2
    assert list(queue_of(without_data).states().values()) == ["failed"] * 2
