"""Training on images that are decoded for every batch: bit for bit as if they were in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lab.config import TrialConfig
from lab.data import clear_cache, load_data
from lab.data.stream import StreamSplit
from lab.training import Interrupted, Trainer
from lab.training.checkpoint import load_checkpoint, save_checkpoint
from tests.trainers import finish

VALUES: dict[str, Any] = {
    **{"image_size": 12, "batch_size": 16, "epochs": 3},
    **{"augment": ("random_crop", "horizontal_flip", "rotation"), "conv_dropout": 0.1, "norm": "batch"},
    **{
        "depth": 1,
        "width": 4,
        "hard_mining_from": 2,
        "hard_mining_fraction": 0.5,
        "eval_test_every_epoch": True,
    },
    **{"threads": 1, "device": "cpu", "patience": None},
}
SOURCES: dict[str, dict[str, Any]] = {
    "folder": {"dataset": "image_folder", "val_fraction": 0.25},
    "folds of a table": {"dataset": "image_csv", "group_column": "patient", "folds": 3, "fold": 1},
    "folds of Parquet": {"dataset": "parquet", "folds": 3, "fold": 2, "sampler": "balanced"},
}
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "epoch_test_loss", "mined_loss")


@pytest.fixture(scope="module", autouse=True)
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two classes of photographs of 16 by 14 pixels, as JPEG; a table of them, and a Parquet file with them."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir()
        for number in range(50):
            pixels = rng.integers(0, 200, (14, 16, 3), dtype=np.uint8) + 50 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.jpg")
    files = sorted(root.glob("*/*.jpg"))
    labels, patients = [file.parent.name for file in files], [f"{int(file.stem) // 4}" for file in files]
    table = zip((file.relative_to(root).as_posix() for file in files), labels, patients, strict=True)
    (root / "photos.csv").write_text("\n".join(map(",".join, [("path", "label", "patient"), *table])))
    images = [file.read_bytes() for file in files]
    pq.write_table(pa.table({"image": images, "label": labels}), root / "photos.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield root
    clear_cache()


def trainer(photos: Path, *, in_memory: bool, source: str = "folder", steps: int | None = None) -> Trainer:
    """Return a trainer that is told to stop after some steps."""
    config = TrialConfig(**VALUES, **SOURCES[source], data_dir=str(photos), data_in_memory=in_memory)
    answers = iter(()) if steps is None else iter([False] * steps + [True])
    dataset = load_data(config)
    assert isinstance(dataset.train, StreamSplit) != in_memory
    return Trainer(config, dataset, lambda: next(answers, False))


def assert_same(one: Trainer, other: Trainer) -> None:
    assert len(one.history) == len(other.history) == VALUES["epochs"]
    for ours, theirs in zip(one.history, other.history, strict=True):
        assert {name: ours.get(name) for name in CURVES} == {name: theirs.get(name) for name in CURVES}
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_the_curves_and_weights_are_those_of_images_in_memory(photos: Path) -> None:
    assert_same(finish(trainer(photos, in_memory=False)), finish(trainer(photos, in_memory=True)))


@pytest.mark.parametrize(
    ("source", "first", "second"),
    [
        ("folder", False, False),
        ("folds of a table", True, False),
        ("folds of a table", False, False),
        ("folds of Parquet", False, True),
    ],
)
@pytest.mark.parametrize("steps", [2, 8])
def test_it_continues_within_an_epoch_to_the_last_bit(
    photos: Path, source: str, first: bool, second: bool, steps: int, tmp_path: Path
) -> None:
    stopped = trainer(photos, in_memory=first, source=source, steps=steps)
    with pytest.raises(Interrupted, match="asked to stop"):
        finish(stopped)
    save_checkpoint(stopped.state_dict(), tmp_path / "last.pt")
    torch.manual_seed(999)  # whatever happens in between
    continued = trainer(photos, in_memory=second, source=source)
    continued.load_state_dict(load_checkpoint(tmp_path / "last.pt"))
    assert (continued.epoch, continued.step) == (stopped.epoch, stopped.step)
    assert_same(finish(continued), finish(trainer(photos, in_memory=True, source=source)))


def test_it_continues_after_an_epoch_to_the_last_bit(photos: Path, tmp_path: Path) -> None:
    stopped = trainer(photos, in_memory=False)
    for _ in islice(stopped.epochs(), 1):
        pass
    save_checkpoint(stopped.state_dict(), tmp_path / "last.pt")
    continued = trainer(photos, in_memory=False)
    continued.load_state_dict(load_checkpoint(tmp_path / "last.pt"))
    assert_same(finish(continued), finish(trainer(photos, in_memory=True)))
