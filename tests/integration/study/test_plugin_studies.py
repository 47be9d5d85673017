"""Studies that bring code along: it is the same in every worker, wherever that is, and only where it may run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from lab.config import Grid, load_grid
from lab.engines import Stores, submit
from lab.plugins import kept
from lab.study import StudyKey, TrialEnded, WorkerFailed, find_queue, work
from tests.once import copy_of
from tests.programs import start_lab
from tests.stores import stores_in

NET = """
import lab
from torch import nn


@lab.architecture
def narrow(shape, classes, *, alpha: float = 0.1, hidden: int = 16):
    layers = nn.Linear(64, hidden), nn.LeakyReLU(alpha), nn.Linear(hidden, classes)
    return nn.Sequential(nn.Flatten(), *layers)
"""
GRID = """
use: narrow_nets.py
base: {architecture: narrow, epochs: 1}
grid: {alpha: [0.1, 0.2], loss: ['narrow_nets:hot', cross_entropy]}
"""
LOSS = """

class hot(nn.CrossEntropyLoss):
    def __init__(self, images, *, temperature: float = 2.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, logits, labels):
        return super().forward(logits / self.temperature, labels)
"""

Write = Callable[[str], Grid]


@pytest.fixture
def stores(tmp_path: Path, fresh_databases: Path) -> Stores:
    home = tmp_path / "stores"
    copy_of(fresh_databases, home)
    return stores_in(home)


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Return what writes a grid file and its plug-in with some code, and reads the grid."""
    folder = tmp_path / "mine"
    folder.mkdir()

    def written(code: str) -> Grid:
        (folder / "narrow_nets.py").write_text(code)
        (folder / "own.yaml").write_text(GRID)
        return load_grid(folder / "own.yaml")

    yield written
    forget()


def forget() -> None:
    kept._take_out("narrow_nets")


@pytest.mark.slow
def test_a_worker_elsewhere_trains_with_the_code_of_the_study(
    write: Write, stores: Stores, tmp_path: Path
) -> None:
    submit(write(NET + LOSS), stores)
    (tmp_path / "mine" / "narrow_nets.py").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "narrow_nets.py").write_text("raise SystemExit('another file of this name')")
    words = ("worker", "--study", "own", "--idle-exit", "0.1", "--workers")
    refused = start_lab(elsewhere, stores.storage, stores.tracking_uri, *words, "2", "--no-allow-code")
    assert refused.wait(120) == 1
    log = (elsewhere / "log.txt").read_text()
    assert log.count("own' brings code of its own, the plug-in narrow_nets") == 1  # of two workers
    worker = start_lab(elsewhere, stores.storage, stores.tracking_uri, *words, "1")
    assert worker.wait(240) == 0, (elsewhere / "log.txt").read_text()
    queue = find_queue(stores.storage, "own")
    assert queue is not None
    assert [trial.state for trial in queue.trials()] == [TrialState.COMPLETE] * 4
    assert [plugin["module"] for plugin in queue.record().code] == ["narrow_nets"]


def test_other_code_is_other_cells_and_ends_those_that_wait(write: Write, stores: Stores) -> None:
    submit(write(NET + LOSS), stores)
    forget()
    again = submit(write(NET.replace("Flatten()", "Flatten(1)") + LOSS), stores)[-1]
    assert (again.added, again.present) == (4, 0)
    states = [record.state.name for record in again.queue.records()]
    assert states.count("WAITING") == 4
    events: list[object] = []
    work(stores.for_worker("own"), events.append, lambda: False)
    assert sum(isinstance(event, TrialEnded) for event in events) == 4


def test_the_code_stays_while_trials_need_it(write: Write, stores: Stores, tmp_path: Path) -> None:
    queue = submit(write(NET + LOSS), stores)[-1].queue
    before = queue.record().code
    part = tmp_path / "part.yaml"
    part.write_text("{name: own, base: {epochs: 1}, grid: {lr: [0.1]}}")
    submit(load_grid(part), stores)
    assert queue.record().code == before
    for record in queue.records(TrialState.WAITING):
        queue.storage.set_trial_state_values(record.trial_id, TrialState.RUNNING)
        queue.complete(record.trial_id, 0.5)
    submit(load_grid(part), stores)
    assert queue.record().code == ()


@pytest.mark.parametrize(
    "damage",
    [{"text": "import os"}, {"module": "../narrow_nets"}, {"version": 1}, {"more": ""}],
    ids=lambda damage: next(iter(damage)),
)
def test_code_that_is_not_what_was_kept_is_not_run(
    write: Write, stores: Stores, damage: dict[str, object]
) -> None:
    queue = submit(write(NET + LOSS), stores)[-1].queue
    forget()
    (kept,) = queue.record().code
    queue.note(StudyKey.CODE, [{**kept, **damage}])
    events: list[object] = []
    work(stores.for_worker("own"), events.append, lambda: False)
    (failed,) = events
    assert isinstance(failed, WorkerFailed)
    assert (
        "'own' cannot be trained: what it has kept of its plug-ins is malformed; submit its grid"
        in failed.error
    )
    submit(write(NET + LOSS), stores)
    assert queue.record().code == (kept,)


def test_a_worker_that_may_not_run_code_says_so_and_claims_nothing(write: Write, stores: Stores) -> None:
    queue = submit(write(NET + LOSS), stores)[-1].queue
    forget()
    events: list[object] = []
    settings = replace(stores, allow_code=False).for_worker("own")
    work(settings, events.append, lambda: False)
    (failed,) = events
    assert isinstance(failed, WorkerFailed)
    assert "brings code of its own" in failed.error
    assert {trial.state for trial in queue.trials()} == {TrialState.WAITING}


def test_a_worker_without_a_package_leaves_its_trials_to_others(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lion.yaml"
    file.write_text("{base: {epochs: 1}, grid: {optimizer: [lion]}}")
    queue = submit(load_grid(file), stores)[-1].queue
    monkeypatch.setitem(sys.modules, "timm", None)
    events: list[object] = []
    work(stores.for_worker("lion"), events.append, lambda: False)
    failed = events[-1]
    assert isinstance(failed, WorkerFailed)
    assert (
        "The optimizer lion needs timm, which is not installed here: pip install 'lab[timm]'" in failed.error
    )
    assert [
        (trial.state, record.run_id) for trial, record in zip(queue.trials(), queue.records(), strict=True)
    ] == [(TrialState.WAITING, None)]
