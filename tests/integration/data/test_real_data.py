"""Real data, if available: all of MNIST, and all of CIFAR-10 as an image folder."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from lab.config import TrialConfig
from lab.data import clear_cache, epoch_batches, load_data, shuffled_order

_SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def _need(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear_cache()
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))


def test_mnist_is_whole_and_has_its_known_statistics() -> None:
    _need(_SHARED / "MNIST")
    dataset = load_data(TrialConfig(dataset="mnist", data_dir=str(_SHARED)))
    assert dataset.val is not None
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [54_000, 6_000, 10_000]
    assert dataset.mean.item() == pytest.approx(0.1307, abs=1e-3)
    assert dataset.std.item() == pytest.approx(0.3081, abs=1e-3)
    assert dataset.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = torch.stack([torch.bincount(split.labels) for split in (dataset.train, dataset.val)])
    shares = counts[1] / counts.sum(0)
    assert torch.allclose(shares, torch.tensor(0.1), atol=2e-4)


def test_an_epoch_of_mnist_is_normalised() -> None:
    _need(_SHARED / "MNIST")
    dataset = load_data(TrialConfig(dataset="mnist", data_dir=str(_SHARED)))
    order = shuffled_order(len(dataset.train), torch.Generator().manual_seed(0), torch.device("cpu"))
    batches = epoch_batches(dataset.train, batch_size=128, mean=dataset.mean, std=dataset.std, order=order)
    moments = torch.stack([torch.stack((x.mean(), x.square().mean())) * len(x) for x, _ in batches])
    mean, square = (moments.sum(0) / len(dataset.train)).tolist()
    assert mean == pytest.approx(0, abs=1e-3)
    assert square == pytest.approx(1, abs=1e-3)


def test_two_digits_from_two_hundred_samples() -> None:
    _need(_SHARED / "MNIST")
    settings = {"dataset": "mnist", "data_dir": str(_SHARED)}
    dataset = load_data(TrialConfig(**settings, classes=("0", "9"), train_samples=200))
    assert dataset.val is not None
    assert dataset.classes == ("0", "9")
    assert torch.bincount(dataset.train.labels).tolist() == [100, 100]
    assert torch.bincount(dataset.test.labels).tolist() == [980, 1_009]  # as published
    assert len(dataset.val) == 1_188  # a tenth of 5,923 and 5,949, rounded up
    assert dataset.mean.item() == pytest.approx(dataset.train.images.double().mean().item() / 255, abs=1e-6)
    known = load_data(TrialConfig(**settings)).test
    nines = known.images[known.labels == 9]
    assert torch.equal(dataset.test.images[dataset.test.labels == 1], nines)


def test_cifar10_as_jpeg_is_decoded_once(tmp_path: Path) -> None:
    with tarfile.open(_need(_SHARED / "cifar10-jpeg.tar.gz")) as archive:
        kept = [file for file in archive if file.isdir() or "/00" in file.name]  # 100 per class and split
        archive.extractall(tmp_path, kept, filter="data")
    config = TrialConfig(dataset="image_folder", data_dir=str(tmp_path / "cifar10-jpeg"))
    first = load_data(config)
    assert (len(first.train), len(first.test)) == (900, 1_000)
    assert first.classes[3] == "cat"
    assert 0.4 < float(first.mean.mean()) < 0.55
    clear_cache()
    assert load_data(config).digest == first.digest
    (kept_file,) = (tmp_path / "cache" / "images").iterdir()
    assert kept_file.stat().st_size > 2_000 * 32 * 32 * 3


@pytest.mark.slow
def test_the_whole_of_cifar10_as_jpeg(tmp_path: Path) -> None:
    with tarfile.open(_need(_SHARED / "cifar10-jpeg.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    dataset = load_data(TrialConfig(dataset="image_folder", data_dir=str(tmp_path / "cifar10-jpeg")))
    assert dataset.val is not None
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [45_000, 5_000, 10_000]
    published = torch.tensor([0.4914, 0.4822, 0.4465])  # of the original images; JPEG changes little
    assert torch.allclose(dataset.mean, published, atol=2e-3)
