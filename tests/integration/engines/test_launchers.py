"""The contract of launchers, run over each of them: real workers on a small study in SQLite."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import torch

from lab import registry
from lab.config import parse_grid
from lab.engines import Stores, submit
from lab.engines.devices import Device
from lab.engines.inline import InlineLauncher
from lab.engines.launcher import Exited, Launcher
from lab.engines.node import Origin
from lab.engines.processes import ProcessLauncher
from lab.engines.seats import Seat, Seats
from lab.engines.slurm import SlurmLauncher
from lab.errors import ResourceError
from lab.study import (
    EpochEnded,
    Event,
    TrialEnded,
    TrialQueue,
    TrialStarted,
    WorkerFailed,
    find_queue,
    put_back_dead,
    requeue_failed,
)
from tests.workers import forked, kill

CPU = Seat(Device("cpu"), Fraction(1, 2))
GPUS = (Device("7"), Device("GPU-6e3b"))
PATIENCE = 200  # seconds; a loaded machine is slow

GRID = """
name: tiny
base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 256, patience: none, activation: ACTIVATION}
grid: {lr: [0.01, 0.02, 0.03]}
"""


class Tells(torch.nn.Module):
    """An activation that fails in a worker process, and so tells what that sees."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if multiprocessing.parent_process() is not None:
            raise ValueError(f"sees GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}")
        return images


def jobs_here() -> SlurmLauncher:
    """Jobs of submitit's local executor: what Slurm runs, without Slurm."""
    return SlurmLauncher(Path(".lab/slurm"), 2, {}, Origin.here(), cluster="local")


@pytest.fixture(params=[InlineLauncher, ProcessLauncher, pytest.param(jobs_here, marks=pytest.mark.slow)])
def launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    launcher: Launcher = request.param()
    yield launcher
    launcher.kill()


@pytest.fixture
def processes() -> Iterator[ProcessLauncher]:
    launcher = ProcessLauncher(GPUS)
    yield launcher
    launcher.kill()


def queued(stores: Stores, epochs: int = 2, activation: str = "relu") -> TrialQueue:
    grid = parse_grid(GRID.replace("ACTIVATION", activation), "tiny.yaml", {"epochs": epochs})
    submit(grid, stores)
    queue = find_queue(stores.storage, "tiny")
    assert queue is not None
    return queue


def states(queue: TrialQueue) -> list[str]:
    return [trial.state.name for trial in queue.trials()]


class Heard:
    """What a launcher's workers have said so far, by worker."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._said: dict[int, list[Event | Exited]] = {}

    def __getitem__(self, worker: int) -> list[Event | Exited]:
        return self._said.setdefault(worker, [])

    def of(self, worker: int, kind: type) -> list[Event | Exited]:
        return [event for event in self[worker] if isinstance(event, kind)]

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self._said
            for worker, event in self._launcher.listen(0.2):
                self[worker].append(event)

    def until_exited(self, *workers: int) -> None:
        self.until(lambda: all(self.of(worker, Exited) for worker in workers))


def test_events_come_in_order_and_the_exit_last(launcher: Launcher, stores: Stores) -> None:
    queue, heard = queued(stores), Heard(launcher)
    worker = launcher.start(stores.for_worker("tiny"), CPU)
    assert len(launcher) == 1
    heard.until_exited(worker)
    kinds = [type(event) for event in heard[worker]]
    assert kinds == [*[TrialStarted, EpochEnded, EpochEnded, TrialEnded] * 3, Exited]
    assert [event.epoch for event in heard.of(worker, EpochEnded)] == [1, 2] * 3
    assert heard[worker][-1] == Exited(0)
    assert len(launcher) == 0
    assert states(queue) == ["COMPLETE"] * 3


def test_every_worker_has_a_number_of_its_own(launcher: Launcher, stores: Stores) -> None:
    queued(stores)
    heard = Heard(launcher)
    first = launcher.start(stores.for_worker("tiny"), CPU)
    second = launcher.start(stores.for_worker("tiny"), CPU)
    assert first != second
    assert len(launcher) == 2
    heard.until_exited(first, second)
    ended = [event.label for worker in (first, second) for event in heard.of(worker, TrialEnded)]
    assert sorted(ended) == ["lr=0.01", "lr=0.02", "lr=0.03"]
    assert launcher.start(stores.for_worker("tiny"), CPU) not in (first, second)


def test_a_stopped_worker_checkpoints_and_returns_its_trial(launcher: Launcher, stores: Stores) -> None:
    queue, heard = queued(stores, epochs=100_000), Heard(launcher)
    worker = launcher.start(stores.for_worker("tiny"), CPU)
    heard.until(lambda: heard.of(worker, EpochEnded))
    launcher.stop(worker)
    heard.until_exited(worker)
    assert heard[worker][-1] == Exited(0)
    assert [event.outcome for event in heard.of(worker, TrialEnded)] == ["killed"]
    assert states(queue) == ["WAITING"] * 3
    assert list(stores.checkpoint_dir.rglob("*.pt"))


def test_one_worker_is_stopped_and_another_goes_on(launcher: Launcher, stores: Stores) -> None:
    queue, heard = queued(stores, epochs=10), Heard(launcher)
    first = launcher.start(stores.for_worker("tiny"), CPU)
    heard.until(lambda: heard.of(first, EpochEnded))
    second = launcher.start(stores.for_worker("tiny"), CPU)
    launcher.stop(first)
    heard.until_exited(first, second)
    assert heard[second][-1] == Exited(0)
    assert states(queue) == ["COMPLETE"] * 3


def test_all_are_stopped(launcher: Launcher, stores: Stores) -> None:
    queue, heard = queued(stores, epochs=100_000), Heard(launcher)
    workers = [launcher.start(stores.for_worker("tiny"), CPU) for _ in range(2)]
    heard.until(lambda: any(heard.of(worker, EpochEnded) for worker in workers))
    launcher.stop()
    heard.until_exited(*workers)
    assert states(queue) == ["WAITING"] * 3


def test_nobody_lives_after_a_kill_and_nothing_more_is_heard(launcher: Launcher, stores: Stores) -> None:
    queue, heard = queued(stores, epochs=100_000), Heard(launcher)
    worker = launcher.start(stores.for_worker("tiny"), CPU)
    heard.until(lambda: heard.of(worker, EpochEnded))
    launcher.kill()
    assert len(launcher) == 0
    assert list(launcher.listen(0.01)) == []
    put_back_dead(queue)
    assert states(queue) == ["WAITING"] * 3


def test_a_worker_that_raises_says_why(launcher: Launcher, stores: Stores) -> None:
    queued(stores)
    heard = Heard(launcher)
    # stands for a fault of lab's own: what users do wrong is told as a `WorkerFailed`
    broken = replace(stores.for_worker("tiny"), tracking_uri=3)  # type: ignore[arg-type]
    worker = launcher.start(broken, CPU)
    heard.until_exited(worker)
    exited = heard[worker][-1]
    assert isinstance(exited, Exited)
    assert exited.code == 1
    assert "TypeError" in exited.error


def test_a_process_that_cannot_be_started_is_one_clear_error(
    processes: ProcessLauncher, stores: Stores
) -> None:
    queued(stores)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(
            ResourceError, match=r"A worker process cannot be started: Too many open files\..*ulimit -n"
        ):
            processes.start(stores.for_worker("tiny"), CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(processes) == 0


def test_a_study_that_is_no_more_is_told(launcher: Launcher, stores: Stores) -> None:
    queued(stores)
    heard = Heard(launcher)
    worker = launcher.start(stores.for_worker("another"), CPU)
    heard.until_exited(worker)
    assert [type(event) for event in heard[worker]] == [WorkerFailed, Exited]
    assert "no longer has this study" in heard[worker][0].error


def test_a_worker_that_cannot_go_on_says_so_and_exits_in_order(launcher: Launcher, stores: Stores) -> None:
    heard = Heard(launcher)
    settings = Stores(storage="nonsense://", tracking_uri=stores.tracking_uri).for_worker("tiny")
    worker = launcher.start(settings, CPU)
    heard.until_exited(worker)
    failed, exited = heard[worker]
    assert isinstance(failed, WorkerFailed)
    assert "--storage" in failed.error
    assert exited == Exited(0)


def test_it_has_the_devices_it_was_given() -> None:
    for launcher in (InlineLauncher(GPUS), ProcessLauncher(GPUS)):
        assert launcher.devices() == GPUS


def test_there_is_something_to_run_on(launcher: Launcher) -> None:
    assert Seats(launcher.devices()).take(dict.fromkeys(launcher.devices(), Fraction(1))) is not None


def test_how_a_process_was_killed_is_told(processes: ProcessLauncher, stores: Stores) -> None:
    queued(stores, epochs=100_000)
    heard = Heard(processes)
    worker = processes.start(stores.for_worker("tiny"), CPU)
    heard.until(lambda: heard.of(worker, EpochEnded))
    for each in forked():
        kill(each)
    heard.until_exited(worker)
    assert heard[worker][-1] == Exited(-signal.SIGKILL)


def test_no_signal_goes_to_a_process_that_may_have_the_id_of_one_that_has_ended(
    processes: ProcessLauncher, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(stores, epochs=100_000)
    heard = Heard(processes)
    worker = processes.start(stores.for_worker("tiny"), CPU)
    heard.until(lambda: heard.of(worker, TrialStarted))
    process = processes._workers[worker].process
    os.kill(process.pid, signal.SIGKILL)
    assert wait([process.sentinel], PATIENCE)  # its server has seen it: the id is free
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, signal: sent.append(pid))
    processes.stop()
    processes.kill()
    assert not sent


def test_a_process_sees_the_gpu_of_its_seat_alone(
    processes: ProcessLauncher, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,GPU-6e3b")
    before = dict(registry.activations._entries)
    Tells.__module__ = "__main__"  # so that it goes along as a whole
    registry.activations.register("tells", Tells)
    try:
        queue, heard = queued(stores, activation="tells"), Heard(processes)
        for gpu in GPUS:
            worker = processes.start(stores.for_worker("tiny"), Seat(gpu))
            heard.until_exited(worker)
            requeue_failed(queue)
            errors = {event.error for event in heard.of(worker, TrialEnded)}
            assert errors == {f"ValueError: sees GPU {gpu.name}"}
    finally:
        registry.activations._entries = before
