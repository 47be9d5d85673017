"""Sweeps on images that are decoded for every batch: the same results, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lab.config import Grid, parse_grid
from lab.engines import Progress, Stores, sweep
from lab.tracking import connect
from tests.workers import forked, kill

GRID = """
name: {name}
base:
  data_dir: {photos}
  image_size: 12
  data_in_memory: {in_memory}
  augment: [random_crop]
  epochs: {epochs}
  patience: none
  batch_size: 16
  depth: 1
  width: 2
  checkpoint_every_n_steps: 2
grid:
  data:
    table: {{dataset: image_csv, group_column: patient, folds: 4, fold: 3}}
    parquet: {{dataset: parquet, folds: 4, fold: 0, sampler: balanced}}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def make_grid(tmp_path: Path) -> Callable[..., Grid]:
    """Return a function that makes grids of a table with groups, and of a Parquet file, both in folds."""
    rng = np.random.default_rng(3)
    lines, rows = ["path,label,patient"], []
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 200, (14, 16, 3), dtype=np.uint8) + 50 * label
            file = tmp_path / "photos" / name / f"{number}.jpg"
            Image.fromarray(pixels.astype(np.uint8)).save(file)
            lines.append(f"{name}/{number}.jpg,{name},{number // 3}")
            rows.append({"image": file.read_bytes(), "label": name})
    (tmp_path / "photos" / "photos.csv").write_text("\n".join(lines))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "photos" / "photos.parquet")

    def make(name: str, in_memory: bool, epochs: int = 3) -> Grid:
        values = {"name": name, "photos": tmp_path / "photos", "in_memory": in_memory, "epochs": epochs}
        return parse_grid(GRID.format(**{key: str(value) for key, value in values.items()}), f"{name}.yaml")

    return make


def curves(stores: Stores, study: str) -> dict[str, list[dict[int, float]]]:
    tracker = connect(stores.tracking_uri)
    runs = tracker.runs(tracker.experiment(study), tags={"lab.kind": "trial"})
    names = ("train_loss", "val_loss", "val_accuracy", "test_loss")
    return {
        run["name"]: [tracker.history(run["run_id"], each) for each in names] for _, run in runs.iterrows()
    }


@pytest.mark.slow
def test_two_workers_stream_what_one_has_in_memory(stores: Stores, make_grid: Callable[..., Grid]) -> None:
    assert sweep(make_grid("streamed", in_memory=False), stores, workers=2).states == {"complete": 2}
    assert sweep(make_grid("memory", in_memory=True), stores, workers=1).states == {"complete": 2}
    assert curves(stores, "streamed") == curves(stores, "memory")
    assert forked() == []


@pytest.mark.slow
def test_killed_workers_and_loaders_change_nothing(stores: Stores, make_grid: Callable[..., Grid]) -> None:
    """All processes are killed once two epochs are done: workers are replaced, and none of the loaders is left."""
    killed: list[int] = []

    def watch(progress: Progress) -> None:
        if not killed and any(running.epoch >= 2 for running in progress.running.values()):
            victims = forked()
            killed.extend(each.pid for each in victims)
            for each in victims:  # a loader may end by itself once its worker is killed
                kill(each)

    grid: Any = make_grid("disturbed", in_memory=False, epochs=30)
    assert sweep(grid, stores, workers=2, on_progress=watch).states == {"complete": 2}
    assert len(killed) >= 2
    sweep(make_grid("calm", in_memory=True, epochs=30), stores, workers=1)
    assert curves(stores, "disturbed") == curves(stores, "calm")
    assert forked() == []
