"""Workers in actors of a real Ray, whose nodes are all on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import psutil
import pytest
import torch

from lab import registry
from lab.config import Grid, parse_grid
from lab.engines import Progress, Stores, sweep
from lab.engines.devices import Device
from lab.engines.inline import InlineLauncher
from lab.engines.launcher import Exited
from lab.engines.ray import RayLauncher
from lab.engines.ray.cluster import RayCluster
from lab.engines.ray.worker import RayWorker
from lab.engines.seats import Seat
from lab.errors import ConfigError, LabError
from lab.study import EpochEnded, TrialEnded, TrialQueue, WorkerDied, find_queue
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

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]  # for several waits

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 200  # seconds; a loaded machine is slow
MEMORY = 80_000_000  # bytes of a node's object store: about the least
HALF = Seat(Device("gpu-0", workers=2), Fraction(1, 2))

GRID = """
name: tiny
base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 256, patience: none, epochs: EPOCHS}
grid: {VALUES}
max_retries: 1
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


def grid_of(epochs: int, values: str = "lr: [0.01, 0.02, 0.03]") -> Grid:
    text = GRID.replace("EPOCHS", str(epochs)).replace("VALUES", values)
    return parse_grid(text, "tiny.yaml", {})


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

    def training() -> set[int]:
        """Return the workers that have trained since the first of them died."""
        deaths = [at for at, (_, event) in enumerate(events) if isinstance(event, WorkerDied)]
        since = events[deaths[0] :] if deaths else []
        return {number for number, event in since if isinstance(event, EpochEnded)}

    def disturb(progress: Progress) -> None:
        if not done and sum(isinstance(event, EpochEnded) for _, event in events) >= 3:
            done.append("killed")
            os.kill(next(iter(launcher._workers.values())).place.pid, signal.SIGKILL)
        elif done == ["killed"] and len(training()) == 2:  # so both nodes have a worker
            done.append("lost")
            workers = {number: worker.place for number, worker in launcher._workers.items()}
            (number,) = (number for number, place in workers.items() if place.node == lost.node_id)
            cluster.remove_node(lost)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(workers[number].pid).wait(PATIENCE)
            # another machine would not have them; the worker that is left goes on writing its own
            last = [event.number for at, event in events if at == number and isinstance(event, EpochEnded)][
                -1
            ]
            (record,) = (record for record in queue_of(stores).records() if record.number == last)
            shutil.rmtree(fallback("checkpoints") / str(record.run_id))
            add_node()

    launcher.__class__ = Telling
    grid = grid_of(400)  # they outlast what is done to them, also on a fast machine
    nowhere = replace(stores, checkpoint_dir=Path("/proc/lab/checkpoints"))
    result = sweep(grid, nowhere, workers=2, launcher=launcher, on_progress=disturb)

    assert done == ["killed", "lost"]
    errors = [event.error for _, event in events if isinstance(event, TrialEnded) and event.error]
    assert result.states == {"complete": 3}, errors
    assert sorted(states(queue_of(stores))) == ["COMPLETE"] * 3 + ["FAIL"] * (
        len(queue_of(stores).trials()) - 3
    )
    died = [event for _, event in events if isinstance(event, WorkerDied)]
    assert [event.blameless for event in died] == [False, True]
    calm = stores_in(tmp_path / "calm")
    copy_of(fresh_databases, tmp_path / "calm")
    sweep(grid, calm, launcher=InlineLauncher())
    assert curves(stores) == curves(calm)


def test_a_trial_that_kills_its_process_each_time_fails_and_the_others_are_trained(
    launch: Callable[..., RayLauncher], stores: Stores, registered: Callable[[str, Any], None]
) -> None:
    here = os.getpid()  # which plans the trial

    class Kills(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if os.getpid() != here:
                # sent to the process, another thread takes it, and this one trains on for a second
                signal.raise_signal(signal.SIGSEGV)
            return images

    registered("kills", Kills)
    grid = grid_of(1, "lr: [0.01, 0.02], activation: [kills, relu]")
    result = sweep(grid, stores, workers=1, launcher=launch())
    assert result.states == {"complete": 2, "failed": 2}
    runs = connect(stores.tracking_uri).runs(result.experiment, tags={"lab.kind": "trial"})
    errors = runs["tags.lab.error"].dropna().tolist()
    assert len(errors) == 2
    assert all(error.startswith("its process died every time it was tried (2 times)") for error in errors)


def test_a_process_that_dies_before_it_begins_a_trial_is_not_started_for_ever(
    launcher: RayLauncher, stores: Stores
) -> None:
    class Deadly:
        def __reduce__(self) -> Any:
            return os._exit, (3,)

    queued(stores)
    deadly = replace(launcher._origin, names=cloudpickle.dumps(Deadly()))
    heard = Heard(launcher)
    launcher._origin = deadly
    worker = launcher.start(stores.for_worker("tiny"), CPU)
    heard.until_exited(worker)
    *died, exited = heard[worker]
    assert {type(event) for event in died} == {WorkerDied}
    assert len(died) == 5
    assert exited.code == 1
    assert "died 5 times before it began a trial; the log of its Ray node says more" in exited.error


def test_workers_share_a_gpu_and_who_finds_no_room_waits_until_it_is_stopped(
    launch: Callable[..., RayLauncher], add_node: Callable[..., Any], stores: Stores
) -> None:
    add_node(num_cpus=4, num_gpus=1)
    queue = queued(stores, epochs=100_000)
    launcher = launch(num_gpus=0.5)
    assert launcher.devices() == [Device("gpu-0", workers=2)]
    heard = Heard(launcher)
    first, second, third = (launcher.start(stores.for_worker("tiny"), HALF) for _ in range(3))
    heard.until(lambda: len(launcher.pending()) == 1)
    assert launcher.notes() == ["ray: 1 waiting for resources (0.5 GPU, 1 CPU each), 2 running on 1 node"]
    (waiting,) = launcher.pending()
    launcher.stop(waiting)
    heard.until_exited(waiting)
    assert heard[waiting] == [Exited(0)]
    assert len({first, second, third} - {waiting}) == len(launcher) == 2

    alone = launcher.start(stores.for_worker("tiny"), Seat(Device("gpu-0")))
    heard.until(lambda: "1 GPU, 1 CPU each" in launcher.notes()[0])
    launcher.stop()
    heard.until_exited(first, second, third, alone)
    assert heard[alone] == [Exited(0)]
    assert "RUNNING" not in states(queue)


def test_what_no_node_has_is_told(launch: Callable[..., RayLauncher], stores: Stores) -> None:
    launcher = launch(resources={"tpu": 2})
    heard = Heard(launcher)
    worker = launcher.start(stores.for_worker("tiny"), CPU)
    assert launcher.notes() == ["ray: 1 waiting for resources (1 CPU, 2 tpu each; no node has that now)"]
    assert list(launcher.pending()) == [worker]
    launcher.stop()
    heard.until_exited(worker)
    assert heard[worker] == [Exited(0)]


def test_credentials_are_handed_over_in_memory_and_one_thread_is_used(
    launch: Callable[..., RayLauncher],
    stores: Stores,
    registered: Callable[[str, Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = os.getpid()

    class Tells(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if os.getpid() == here:
                return images
            right = os.environ["PGPASSWORD"] == os.environ["CODE"][::-1]
            threads = [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]
            raise ValueError(f"{right}, {threads}, {torch.get_num_threads()} in {os.environ['LAB_DATA_DIR']}")

    registered("tells", Tells)
    secret = uuid.uuid4().hex
    monkeypatch.setenv("PGPASSWORD", secret)
    monkeypatch.setenv("LAB_DATA_DIR", "/data/here")
    launcher = launch(num_cpus=2, runtime_env={"env_vars": {"CODE": secret[::-1]}})
    queued(stores, activation="tells")
    heard = Heard(launcher)
    worker = launcher.start(stores.for_worker("tiny"), CPU)
    heard.until_exited(worker)
    told = {event.error for event in heard.of(worker, TrialEnded)}
    assert told == {"ValueError: True, ['1', '1'], 1 in /data/here"}
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    texts = [file.read_bytes() for file in logs.rglob("*") if file.is_file()]
    assert any(secret[::-1].encode() in text for text in texts)  # what is in `runtime_env` is logged
    assert not any(secret.encode() in text for text in texts)


def test_where_this_lab_is_missing_the_error_says_so(
    launcher: RayLauncher, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = ModuleType("lab.newer")  # workers import the actor's class by name
    newer.RayWorker = type("RayWorker", (RayWorker,), {"__module__": "lab.newer"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lab.newer", newer)
    monkeypatch.setattr("lab.engines.ray.launcher.RayWorker", newer.RayWorker)
    heard = Heard(launcher)
    worker = launcher.start(stores.for_worker("tiny"), CPU)
    heard.until_exited(worker)
    (exited,) = heard[worker]
    assert exited.code == 1
    error = (
        "No module named 'lab.newer'. Install this version of lab on the nodes, or name it in `runtime_env`"
    )
    assert exited.error.endswith(f"ModuleNotFoundError: {error}")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "head",
            "--address takes host:port of a Ray cluster, ray://host:port of its client server, or auto, but",
        ),
        ("127.0.0.1:PORT", "No Ray answers at 127.0.0.1:.*refused. Check the head node's address"),
        ("ray://127.0.0.1:PORT", "No Ray answers at ray://127.0.0.1:.*refused"),
        ("no-such-host.invalid:6379", "No Ray answers at no-such-host.invalid:6379"),
    ],
)
def test_an_address_without_a_ray_is_told_at_once(address: str, message: str) -> None:
    ray.shutdown()
    began = time.monotonic()
    with pytest.raises(LabError, match=message):
        RayCluster(address.replace("PORT", str(free_port())))
    assert time.monotonic() - began < 15


def test_a_worker_uses_no_more_than_one_gpu(cluster: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"num_gpus: a worker uses a GPU or a part of one \(0 to 1\), but got 2"
    ):
        RayLauncher(cluster.address, 2, num_gpus=2)


def test_without_ray_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LabError, match=r"pip install 'lab\[ray\]'"):
        RayCluster()
