"""A real MLflow server that is away when a trial begins, in the middle of it, or when it ends."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lab.config import TrialConfig
from lab.objective import Placement, train
from lab.tracking import JournaledTracker, MemoryTracker, RunStatus, Tracker, connect, deliver
from lab.tracking.base import UnavailableError
from lab.tracking.courier import Courier
from lab.tracking.delivery import Delivered
from lab.tracking.gate import Gate
from lab.tracking.mlflow import MlflowTracker
from lab.training import EpochResult
from tests.servers import MlflowServer, Network

CONFIG = TrialConfig(
    dataset="synthetic", image_size=8, width=4, depth=1, epochs=4, batch_size=256, patience=None, threads=1
)
CURVES = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "lr",
    "best_value",
    "test_accuracy",
    "params",
)
TEXTS = ("config.yaml", "model.txt", "errors/per_class.csv")
FILES = ("curves.png", "per_class.json", "predictions.parquet", "checkpoints/last.pt", "checkpoints/best.pt")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Courier, "longest_pause", 0.5)
    monkeypatch.setattr(Gate, "memory", 1.0)
    monkeypatch.setattr(
        JournaledTracker, "patience", 60.0
    )  # a loaded machine is slow; refused is told at once


def found(tracker: Tracker, scratch: Path) -> dict[str, Any]:
    """Return what the only run of the store has."""
    (run_id,) = tracker.find_runs(None, {"lab.kind": "trial"})
    texts = {path: tracker.download(run_id, path, scratch) for path in TEXTS}
    identity = tracker.find_experiment("lab")
    assert identity is not None
    return {
        "status": tracker.runs(identity)["status"].tolist(),
        "outcome": tracker.tags(run_id)["lab.outcome"],
        "curves": {name: tracker.history(run_id, name) for name in CURVES},
        "texts": {path: file and file.read_text() for path, file in texts.items()},
        "files": [path for path in FILES if tracker.download(run_id, path, scratch / "files")],
        "no files": tracker.download(run_id, "checkpoints/spare.pt", scratch),
    }


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed run has."""
    folder = tmp_path_factory.mktemp("calm")
    tracker = MemoryTracker()
    train(CONFIG, tracker, placement=Placement(checkpoint_dir=folder / "checkpoints"))
    return found(tracker, folder)


def delivered(store: MlflowTracker, journal: Path) -> Delivered:
    """Deliver what is left, once no thread has the journal: MLflow's client retries a request for some seconds."""
    deadline = time.monotonic() + 120
    while True:
        done = deliver(store, journal)
        if not done.left or time.monotonic() > deadline:
            return done
        time.sleep(0.2)


# the server takes seconds to start; tests/unit/tracking/test_journal.py has a store without one be away
@pytest.mark.slow
@pytest.mark.parametrize("away", [range(1, 9), range(9), range(4, 9)])
def test_nothing_is_lost_or_doubled(server: Any, tmp_path: Path, calm: dict[str, Any], away: range) -> None:
    if 0 not in away:
        server.start()
    tracker = connect(server.url, journal_dir=tmp_path / "journal")

    def on_epoch(result: EpochResult) -> None:
        if result.epoch in away:
            server.stop()

    result = train(CONFIG, tracker, placement=Placement(checkpoint_dir=tmp_path / "ckpt"), on_epoch=on_epoch)
    assert result.run_id.startswith("pending-") == (0 in away)
    assert tracker.flush(0.1)
    server.start()
    check(server, tmp_path, calm)


@pytest.mark.slow
def test_what_the_server_did_without_being_heard_is_not_done_twice(
    server: MlflowServer, tmp_path: Path, calm: dict[str, Any]
) -> None:
    server.start()
    network = Network(server.port)
    for path in ("runs/create", "runs/log-batch", "logged-models", "runs/update"):
        network.lose_answer(f"POST /api/2.0/mlflow/{path} ")
    tracker = connect(network.url, journal_dir=tmp_path / "journal")
    train(CONFIG, tracker, placement=Placement(checkpoint_dir=tmp_path / "ckpt"))
    tracker.flush()
    network.close()
    assert not network.unanswered
    check(server, tmp_path, calm)


def check(server: MlflowServer, scratch: Path, calm: dict[str, Any]) -> None:
    """Deliver what is left, and compare the server's only run with an undisturbed one."""
    store = MlflowTracker(server.url)
    done = delivered(store, scratch / "journal")
    assert (done.away, done.refused, bool(done.left)) == ("", [], False)
    assert found(store, scratch / "found") == calm
    (run_id,) = store.find_runs(None, {"lab.kind": "trial"})
    for name in CURVES:
        steps = [point.step for point in store._client.get_metric_history(run_id, name)]
        assert len(steps) == len(set(steps)) == len(calm["curves"][name])
    models = store._client.search_logged_models([store.experiment("lab")])
    assert [str(model.status) for model in models] == ["READY"]
    assert {metric.key for metric in models[0].metrics or []} >= {"test_accuracy", "params"}
    assert calm["status"] == [RunStatus.FINISHED]


def test_a_server_that_goes_in_the_middle_of_its_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()  # the tracker's first look
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            client.close()
            client, _ = listener.accept()
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            client.close()

        thread = threading.Thread(target=answer)
        thread.start()
        tracker = MlflowTracker(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(
            UnavailableError, match=r"no answer\..*IncompleteRead\(0 bytes read, 2 more expected\)"
        ):
            tracker.tags("0" * 32)
        thread.join()
