from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lab import data, registry
from lab.config import TrialConfig
from lab.data import Dataset, MemorySplit, clear_cache, data_root, describe, load_data, make_split
from lab.data.statistics import measure
from lab.errors import ConfigError, DataError

DIGITS = TrialConfig(dataset="digits")
SYNTHETIC = TrialConfig(dataset="synthetic", image_size=16)
_TRAIN_IMAGES = {
    "cifar10": 50_000,
    "cifar100": 50_000,
    "digits": 1_797,
    "fashion_mnist": 60_000,
    "mnist": 60_000,
    "svhn": 73_257,
    "synthetic": 2_000,
}


def test_the_public_surface_is_sorted_and_there() -> None:
    assert data.__all__ == sorted(data.__all__)
    assert all(hasattr(data, name) for name in data.__all__)


@pytest.mark.parametrize("config", [DIGITS, SYNTHETIC], ids=["digits", "synthetic"])
def test_a_dataset_is_as_described(config: TrialConfig) -> None:
    info, dataset = describe(config), load_data(config)
    assert dataset.classes == info.classes
    assert dataset.val is not None
    for split in (dataset.train, dataset.val, dataset.test):
        assert tuple(split.images.shape[1:]) == info.shape
        assert split.images.dtype == torch.uint8
        assert split.images.is_contiguous(memory_format=torch.channels_last)
        assert split.labels.dtype == torch.int64
        assert split.labels.unique().tolist() == list(range(10))
    assert dataset.mean.shape == dataset.std.shape == info.shape[:1]


def test_digits_is_split_three_ways_and_fills_the_grey_scale() -> None:
    dataset = load_data(DIGITS)
    assert dataset.val is not None
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [1_293, 144, 360]
    assert dataset.source == "scikit-learn"
    assert int(dataset.train.images.min()) == 0
    assert int(dataset.train.images.max()) == 255


def test_no_validation_split_where_none_is_asked_for() -> None:
    dataset = load_data(TrialConfig(dataset="digits", val_fraction=0.0, monitor="train_accuracy"))
    assert dataset.val is None
    assert len(dataset.train) + len(dataset.test) == 1_797


def test_folds_partition_the_training_images_and_leave_the_test_split() -> None:
    found = [load_data(TrialConfig(dataset="digits", folds=5, fold=fold)) for fold in range(5)]
    tests = {measure([("train", dataset.test)]).digest for dataset in found}
    assert len(tests) == 1
    assert sum(len(dataset.val) for dataset in found if dataset.val is not None) == 1_437
    for dataset in found:
        assert dataset.val is not None
        assert len(dataset.train) + len(dataset.val) == 1_437
        assert dataset.val.labels.unique().tolist() == list(range(10))


def test_folds_contradict_validation_images_of_ones_own(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / part / name / "0.png")
    config = TrialConfig(dataset="image_folder", data_dir=str(tmp_path), folds=2, fold=0)
    with pytest.raises(
        ConfigError, match="folds: folds=2 makes each fold the validation split once, but this image_f"
    ):
        describe(config)


def test_the_statistics_are_of_the_training_split_alone() -> None:
    dataset = load_data(SYNTHETIC)
    pixels = dataset.train.images.double() / 255
    torch.testing.assert_close(dataset.mean.double(), pixels.mean((0, 2, 3)), rtol=0, atol=1e-6)
    torch.testing.assert_close(dataset.std.double(), pixels.std((0, 2, 3), correction=0), rtol=0, atol=1e-6)


def test_a_channel_that_never_changes_divides_by_one() -> None:
    grey = MemorySplit(torch.full((3, 2, 4, 4), 51, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    measured = measure([("train", grey)])
    assert measured.mean.tolist() == pytest.approx([0.2, 0.2])
    assert measured.std.tolist() == [1.0, 1.0]


def test_loading_again_costs_nothing_and_what_does_not_concern_the_data_does_not_count() -> None:
    first = load_data(DIGITS)
    assert load_data(TrialConfig(dataset="digits", lr=0.5, seed=3, epochs=1)) is first
    assert load_data(TrialConfig(dataset="digits", split_seed=1)) is not first
    assert load_data(DIGITS) is first


def test_only_the_latest_two_are_kept() -> None:
    first = load_data(DIGITS)
    for seed in (1, 2):
        load_data(TrialConfig(dataset="digits", split_seed=seed))
    assert load_data(DIGITS) is not first


def test_the_digest_is_that_of_the_data() -> None:
    first = load_data(SYNTHETIC)
    clear_cache()
    again = load_data(SYNTHETIC)
    assert again is not first
    assert again.digest == first.digest
    assert len(first.digest) == 16
    assert int(first.digest, 16) >= 0
    assert load_data(TrialConfig(dataset="synthetic", image_size=16, split_seed=1)).digest != first.digest


@pytest.mark.parametrize("part", ["pixels", "labels"])
def test_a_changed_pixel_or_label_changes_the_digest(part: str) -> None:
    dataset = load_data(SYNTHETIC)
    changed = getattr(dataset.test, part).clone()
    changed[(0,) * changed.ndim] ^= 1
    other = replace(dataset.test, identity="", **{part: changed})
    assert _digest(dataset, dataset.test) == dataset.digest
    assert _digest(dataset, other) != dataset.digest


def _digest(dataset: Dataset, test: MemorySplit) -> str:
    return measure([("train", dataset.train), ("val", dataset.val), ("test", test)]).digest


def test_synthetic_images_can_be_learnt_but_not_by_heart() -> None:
    dataset = load_data(SYNTHETIC)
    train, test = (split.images.float().flatten(1) for split in (dataset.train, dataset.test))
    means = torch.stack([train[dataset.train.labels == label].mean(0) for label in range(10)])
    nearest = torch.cdist(test - 128, means - 128).argmin(1)
    accuracy = (nearest == dataset.test.labels).float().mean().item()
    assert 0.3 < accuracy < 0.99


def test_the_data_folder_is_the_configs_then_the_environments_then_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAB_DATA_DIR", raising=False)
    assert data_root(DIGITS) == tmp_path / "data"
    monkeypatch.setenv("LAB_DATA_DIR", "elsewhere")
    assert data_root(DIGITS) == tmp_path / "elsewhere"
    assert data_root(TrialConfig(data_dir="mine")) == tmp_path / "mine"


@pytest.mark.parametrize(
    "name", [name for name in registry.datasets if "data_dir" not in registry.datasets[name].options]
)
def test_every_dataset_is_described_without_being_there(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAB_DATA_DIR", str(tmp_path / "nothing"))
    info = describe(TrialConfig(dataset=name))
    assert len(info.classes) == len(set(info.classes)) == (100 if name == "cifar100" else 10)
    assert info.shape[0] in (1, 3)
    assert info.train_images == _TRAIN_IMAGES[name]


def test_arrays_that_do_not_fit_are_refused() -> None:
    images = torch.zeros(3, 2, 2, dtype=torch.uint8).numpy()
    with pytest.raises(DataError, match="x: 3 images do not match 2 labels"):
        make_split(images, [0, 1], 2, "x")
    with pytest.raises(DataError, match=r"x: labels must lie in 0..1, but got 0..2"):
        make_split(images, [0, 1, 2], 2, "x")
    with pytest.raises(DataError, match=r"must be uint8 .* but got float64"):
        make_split(images.astype(float), [0, 1, 0], 2, "x")
    with pytest.raises(DataError, match="there are no images"):
        make_split(images[:0], [], 2, "x")
