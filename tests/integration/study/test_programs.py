"""Programs that call `lab.sweep`: however they are started, from whatever folder and thread."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import lab
from lab import registry
from lab.config import Grid, parse_grid
from lab.errors import ConfigError, LabError
from lab.study import TrialQueue, open_storage

REPOSITORY = Path(__file__).parents[3]

# no main guard, from standard input, from another folder than it was started in, in a thread, with a net's part of
# its own, an environment of its own, and data and stores in relative places
PROGRAM = """
import os, threading
import numpy, torch
from PIL import Image
import lab, lab.registry

class Half(torch.nn.Module):
    def forward(self, images):
        return images / int(os.environ["DIVISOR"])

lab.registry.activations.register("half", Half)
os.environ["DIVISOR"] = "2"
for kind in "ab":
    os.makedirs(f"elsewhere/photos/{kind}")
    for number in range(20):
        pixels = numpy.full((8, 8, 3), 10 * number, numpy.uint8)
        Image.fromarray(pixels).save(f"elsewhere/photos/{kind}/{number}.png")
os.chdir("elsewhere")
stores = lab.Stores(storage="sqlite:///optuna.db", tracking_uri="sqlite:///mlflow.db")
base = {"dataset": "image_folder", "data_dir": "photos", "activation": "half", "epochs": 1}
os.chdir("..")
grid = lab.load_grid("tiny.yaml", base)
os.chdir("elsewhere")

def sweep():
    result = lab.sweep(grid, stores, workers=1)
    print("said", result.ending, result.states)

thread = threading.Thread(target=sweep)
thread.start()
thread.join()
"""

GRID = """
name: tiny
base: {image_size: 8, width: 4, depth: 1, batch_size: 16, patience: none}
grid: {lr: [0.01]}
"""


@pytest.mark.slow
def test_a_program_sweeps_however_it_is_started(tmp_path: Path, fresh_databases: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(GRID)
    done = subprocess.run(
        [sys.executable, "-"],
        input=PROGRAM,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        text=True,
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["said done {'complete': 1}"]  # once: no worker ran the program again
    for name in ("optuna.db", "mlflow.db", ".lab/artifacts/tiny"):
        assert (tmp_path / "elsewhere" / name).exists()
    assert not (tmp_path / ".lab").exists()


def own_grid() -> Grid:
    overrides = {"activation": "mine", "dataset": "synthetic", "epochs": 1}
    return parse_grid(GRID, "tiny.yaml", overrides)


@pytest.fixture
def registered() -> Iterator[Callable[[object], None]]:
    """Register an activation called `mine`."""
    before = dict(registry.activations._entries)
    yield lambda target: registry.activations.register("mine", target)
    registry.activations._entries = before


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why(
    registered: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("nowhere_to_be_found")
    exec("import torch\nclass Mine(torch.nn.ReLU): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registered(module.Mine)
    said = "could not begin a trial: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    with pytest.raises(LabError, match=said):
        lab.sweep(own_grid(), workers=1)


def test_what_no_worker_can_be_given_is_told_before_anything_is_queued(
    registered: Callable[[object], None], tmp_path: Path
) -> None:
    import torch

    class Mine(torch.nn.ReLU):
        stream = sys.stdout.buffer if hasattr(sys.stdout, "buffer") else open(os.devnull)  # noqa: SIM115, PTH123

    Mine.__module__ = "__main__"  # so that it would go along as a whole
    registered(Mine)
    with pytest.raises(ConfigError, match="activation 'mine' cannot be sent to worker processes"):
        lab.sweep(own_grid(), workers=1)
    assert not (tmp_path / ".lab").exists()


def test_a_trial_with_a_name_that_a_worker_does_not_know_waits_for_one_that_does(
    url: str, registered: Callable[[object], None]
) -> None:
    from lab.engines import Stores, submit

    registered("torch.nn:ReLU")
    submit(own_grid(), Stores(storage=url))
    registry.activations._entries.pop("mine")
    queue = TrialQueue(open_storage(url), "tiny")
    with pytest.raises(
        LabError, match=r"trial 0 .* cannot be read: .*Unknown activation 'mine'.* registers its own names"
    ):
        queue.claim()
    assert {trial.state.name for trial in queue.trials()} == {"WAITING"}
    assert queue.trials()[0].user_attrs.get("lab:worker") is None
