"""Every example does what its head and docs/OWN.md say; those with grids train a batch of each of their cells."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from lab import plugins
from lab.config import TrialConfig, load_grid
from lab.data import load_data
from lab.models import build_model, pretrained_weights
from lab.plugins import kept
from lab.study import feasible_cells
from lab.torchvision_import import import_torchvision
from lab.training import Trainer
from tests.conftest import SHARED_DATA
from tests.once import made_once

import_torchvision("torchvision")  # before torchmetrics does it itself

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
OWN = (ROOT / "docs" / "OWN.md").read_text()
GRIDS = sorted(EXAMPLES.glob("*.yaml"))
SCENES, SVHN = "scenes8", "svhn10k"
ARCHIVES = {SCENES: "scenes8-64px.tar.gz", SVHN: "svhn10k.tar.gz"}
QUICK: dict[str, Any] = {"threads": 1}


@pytest.fixture(autouse=True)
def _without_their_plugins() -> Iterator[None]:
    yield
    for module in ("my_nets", "my_parts"):
        if module in sys.modules:
            kept._take_out(module)


def script(name: str) -> ModuleType:
    """Return one of the examples' scripts as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def where_its_data_is(file: Path, factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return where the images of a grid file are, as settings; unpacked once, with the table that a script writes."""
    name = next((folder for folder in ARCHIVES if f"data_dir: {folder}" in file.read_text()), None)
    return {} if name is None else {"data_dir": str(unpacked(name, factory))}


def unpacked(name: str, factory: pytest.TempPathFactory) -> Path:
    archive = SHARED_DATA / ARCHIVES[name]
    if not archive.exists():
        pytest.skip(f"{archive.name} is not in {SHARED_DATA}")

    def make(folder: Path) -> None:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        script({SCENES: "write_patients", SVHN: "write_unbalanced"}[name]).main(folder / name)

    return made_once(factory, f"example-{name}", make) / name


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of the net that scenes_finetune.yaml starts from, by chance, for ten classes."""
    config = TrialConfig(architecture="timm/mobilenetv3_small_050")
    torch.manual_seed(0)
    file = tmp_path / "weights.pth"
    torch.save(build_model(config, (3, 64, 64), 10).state_dict(), file)
    return file


def test_the_document_names_every_example() -> None:
    names = {file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".yaml", ".ipynb")}
    assert len(names) >= 10
    assert {name for name in names if f"examples/{name}" not in OWN} == set()


@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_every_file_says_how_it_is_swept(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# ")
    assert f"lab sweep examples/{file.name}" in text
    assert f"lab sweep examples/{file.name}" in OWN


@pytest.mark.slow
@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_a_batch_of_every_cell_is_trained(
    file: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("torchmetrics" if "metrics" in file.read_text() else "lab")
    started = {"pretrained": str(weights), "image_size": 64} if "pretrained" in file.read_text() else {}
    cells = feasible_cells(load_grid(file, {**QUICK, **where_its_data_is(file, tmp_path_factory), **started}))
    promised = re.search(r"# (\d+) trials", file.read_text())
    assert len(cells) == int(promised[1]) if promised else len(cells) >= 4
    for cell in cells:
        dataset = load_data(cell.config)
        trainer = Trainer(cell.config, dataset)
        found = pretrained_weights(cell.config, dataset.shape, len(dataset.classes))
        assert (found is not None) == bool(started)
        if found is not None:
            trainer.begin_with(dict(found.tensors), new_head=found.new_head)
        assert math.isfinite(next(trainer.optimizer_steps()))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_patients_are_series_of_photographs(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = unpacked(SCENES, tmp_path_factory)
    table = rows(folder / "patients.csv")
    assert sorted(folder / row["path"] for row in table) == sorted(folder.glob("*/*/*.jpg"))
    assert len({row["label"] for row in table}) == 8
    series = {row["patient"] for row in table if Path(row["path"]).stem in ("cdmc181", "cdmc184", "cdmc187")}
    assert series == {"cdmc1"}
    assert 100 < len({row["patient"] for row in table}) < 400


def test_the_folds_divide_the_patients(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = unpacked(SCENES, tmp_path_factory)
    cells = feasible_cells(load_grid(EXAMPLES / "patients.yaml", {**QUICK, "data_dir": str(folder)}))
    datasets = [load_data(cell.config) for cell in cells if cell.config.norm == "none"]
    sizes = [len(dataset.val) for dataset in datasets if dataset.val is not None]
    assert len(sizes) == 5
    assert sum(sizes) == sizes[0] + len(datasets[0].train)
    assert {len(dataset.test) for dataset in datasets} == {len(rows(folder / "patients.csv")) - sum(sizes)}


def test_the_unbalanced_digits_have_a_long_tail(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = unpacked(SVHN, tmp_path_factory)
    table = rows(folder / "unbalanced.csv")
    kept = [
        sum(row["label"] == str(digit) and row["split"] == "train" for row in table) for digit in range(10)
    ]
    assert kept == [543, 1101, 657, 328, 210, 139, 84, 59, 35, 25]
    assert sum(row["split"] == "test" for row in table) == len(list(folder.glob("test/*/*.png")))


def test_the_own_parts_compute_what_they_say() -> None:
    pytest.importorskip("torchmetrics")
    plugins.use(str(EXAMPLES / "my_parts.py"))  # the fixture takes its names out again
    parts = sys.modules["my_parts"]
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    shares = torch.nn.functional.one_hot(labels, 3).float()
    loss = parts.Poly(torch.tensor([2, 2, 2]), epsilon=2.0)
    missing = 1 - logits.softmax(1)[range(6), labels]
    expected = torch.nn.functional.cross_entropy(logits, labels) + 2 * missing.mean()
    assert loss(logits, labels).item() == pytest.approx(expected.item())
    assert loss(logits, shares).item() == pytest.approx(expected.item())

    metric = parts.WorstRecall(3)
    metric.update(shares[[0, 1, 2, 0, 4, 5]], labels)  # one of the two images of class 1 is taken for class 0
    assert metric.compute().item() == 0.5

    images = torch.full((4, 3, 16, 16), 9, dtype=torch.uint8)
    speckled = parts.speckle(images, torch.Generator().manual_seed(0), speckle_share=0.25)
    assert speckled.dtype == torch.uint8
    assert torch.equal(speckled.amax(1), speckled.amin(1))  # all channels of a pixel
    assert (speckled == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    for name in ("my_nets.py", "mlp.yaml"):
        shutil.copy(EXAMPLES / name, tmp_path)
    cells = json.loads((EXAMPLES / "mlp.ipynb").read_text())["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells if cell["cell_type"] == "code")
    shown = [re.sub(r"^(lab\.sweep.*)$", r"print(len(\1))", code, flags=re.MULTILINE) for code in codes]
    done = subprocess.run(
        [sys.executable, "-"],
        input="\n".join(shown),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["6", "2"]
