"""Workers in actors of a real Ray, whose nodes are all on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from lab import registry
from lab.config import Grid, parse_grid
from lab.engines import Progress, Stores, submit, sweep
from lab.engines.devices import Device
from lab.engines.launcher import Exited
from lab.engines.ray import RayLauncher
from lab.engines.ray_cluster import RayCluster
from lab.engines.seats import Seat
from lab.errors import ConfigError, LabError
from lab.study import EpochEnded, TrialEnded, TrialQueue, TrialStarted, WorkerDied, find_queue
from lab.tracking import connect
from tests.integration.engines.test_launchers import (  # noqa: F401  # the contract, run here over actors
    CPU,
    Heard,
    queued,
    states,
    test_a_stopped_worker_checkpoints_and_returns_its_trial,
    test_a_worker_that_cannot_go_on_says_so_and_exits_in_order,
    test_a_worker_that_raises_says_why,
    test_all_are_stopped,
    test_events_come_in_order_and_the_exit_last,
    test_every_worker_has_a_number_of_its_own,
    test_nobody_lives_after_a_kill_and_nothing_more_is_heard,
    test_one_worker_is_stopped_and_another_goes_on,
    test_there_is_something_to_run_on,
)
from tests.once import copy_of
from tests.servers import free_port
from tests.stores import stores_in

pytestmark = pytest.mark.ray

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 120  # seconds; a loaded machine is slow
MEMORY = 80_000_000  # bytes of a node's object store: about the least
HALF = Seat(Device("gpu-0", workers=2), Fraction(1, 2))

GRID = """
name: tiny
base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 256, patience: none, epochs: EPOCHS}
grid: {lr: [0.01, 0.02, 0.03]}
MORE
"""

MakeGrid = Callable[..., Grid]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose head has two cores; nodes that a test adds have what it calls a slot."""
    head = {"num_cpus": 2, "object_store_memory": MEMORY}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def add_node(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Add a node with one core and one slot, or with other resources, to the cluster for this test."""
    added = []

    def add(**resources: Any) -> Any:
        options = {"num_cpus": 1, "resources": {"slot": 1}, **resources}
        added.append(cluster.add_node(object_store_memory=MEMORY, **options))
        return added[-1]

    yield add
    for node in added:
        if node in cluster.worker_nodes:
            cluster.remove_node(node)


@pytest.fixture
def launch(cluster: Any) -> Iterator[Callable[..., RayLauncher]]:
    """Make a launcher whose workers are ended after this test."""
    made: list[RayLauncher] = []

    def make(**options: Any) -> RayLauncher:
        made.append(RayLauncher(cluster.address, 2, **options))
        return made[-1]

    yield make
    for launcher in made:
        launcher.kill()


@pytest.fixture
def launcher(launch: Callable[..., RayLauncher]) -> RayLauncher:
    return launch()


@pytest.fixture
def registered() -> Iterator[Callable[[str, Any], None]]:
    """Register an activation for this test, as a script would: it goes along as a whole."""
    before = dict(registry.activations._entries)

    def register(name: str, activation: Any) -> None:
        activation.__module__ = "__main__"
        registry.activations.register(name, activation)

    yield register
    registry.activations._entries = before


def grid_of(epochs: int, more: str = "", **overrides: object) -> Grid:
    return parse_grid(GRID.replace("EPOCHS", str(epochs)).replace("MORE", more), "tiny.yaml", overrides)


def queue_of(stores: Stores) -> TrialQueue:
    queue = find_queue(stores.storage, "tiny")
    assert queue is not None
    return queue


def curves(stores: Stores) -> dict[str, list[dict[int, float]]]:
    """Return what the trials' runs have logged, except what depends on the clock, by name."""
    tracker = connect(stores.tracking_uri)
    runs = tracker.runs(tracker.experiment("tiny"), tags={"lab.kind": "trial"})
    assert set(runs["status"]) == {"FINISHED"}
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_accuracy", "best_value")
    return {
        name: [tracker.history(run, metric) for metric in names]
        for name, run in zip(runs["name"], runs["run_id"], strict=True)
    }


def fallback(folder: str) -> Path:
    """Where a worker keeps its files if it cannot keep them where it is told to."""
    return Path(tempfile.gettempdir()) / "lab-root" / folder


def test_trials_of_killed_processes_and_of_lost_nodes_continue_elsewhere(
    cluster: Any,
    add_node: Callable[..., Any],
    launch: Callable[..., RayLauncher],
    stores: Stores,
    tmp_path: Path,
    fresh_databases: Path,
) -> None:
    lost, _ = add_node(), add_node()
    launcher = launch(resources={"slot": 1})
    events: list[tuple[int, Any]] = []
    done: list[str] = []

    class Telling(RayLauncher):
        def listen(self, timeout: float) -> Iterator[tuple[int, Any]]:
            for number, event in super().listen(timeout):
                events.append((number, event))
                yield number, event

    def disturb(progress: Progress) -> None:
        epochs = sum(isinstance(event, EpochEnded) for _, event in events)
        if not done and epochs >= 3:
            done.append("killed")
            os.kill(next(iter(launcher._workers.values())).place.pid, signal.SIGKILL)
        elif (
            done == ["killed"] and any(isinstance(event, WorkerDied) for _, event in events) and epochs >= 12
        ):
            done.append("lost")
            cluster.remove_node(lost)
            shutil.rmtree(fallback("checkpoints"))  # another machine would not have them
            add_node()

    launcher.__class__ = Telling
    grid = grid_of(40)
    nowhere = replace(stores, checkpoint_dir=Path("/proc/lab/checkpoints"))
    result = sweep(grid, nowhere, workers=2, launcher=launcher, on_progress=disturb)

    assert done == ["killed", "lost"]
    assert result.states == {"complete": 3}
    assert sorted(states(queue_of(stores))) == ["COMPLETE"] * 3 + ["FAIL"] * (
        len(queue_of(stores).trials()) - 3
    )
    died = [event for _, event in events if isinstance(event, WorkerDied)]
    assert [event.blameless for event in died] == [False, True]
    calm = stores_in(tmp_path / "calm")
    copy_of(fresh_databases, tmp_path / "calm")
    sweep(grid, calm, workers=1)
    assert curves(stores) == curves(calm)
