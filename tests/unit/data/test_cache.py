"""Tests of the arrays that processes share through the cache."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data import clear_cache, epoch_batches, images_at, load_data, make_split, shuffled_order
from lab.data.cache import cache_dir, mapped, read_cache

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def test_an_array_is_made_once_and_mapped_from_then_on() -> None:
    first = mapped("things", "key", ARRAY.copy)
    again = mapped("things", "key", _never)
    assert isinstance(first, np.memmap)
    assert isinstance(again, np.memmap)
    assert np.array_equal(first, ARRAY)
    assert np.array_equal(again, ARRAY)


def test_writing_to_an_array_changes_it_for_nobody_else() -> None:
    mine = mapped("things", "key", ARRAY.copy)
    mine[:] = 0
    assert np.array_equal(mapped("things", "key", _never), ARRAY)


def test_one_makes_the_array_while_all_others_wait() -> None:
    made: list[int] = []
    every = threading.Barrier(6)

    def make() -> NDArray[Any]:
        made.append(1)
        return ARRAY

    def look() -> None:
        every.wait()
        mapped("things", "key", make)

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_fails_while_an_array_is_made_keeps_nobody_waiting() -> None:
    with pytest.raises(ValueError, match="no images today"):
        mapped("things", "key", _never)
    assert np.array_equal(mapped("things", "key", ARRAY.copy), ARRAY)


@pytest.mark.parametrize("size", [0, 10, 64, 100])
def test_a_file_that_is_cut_short_is_not_read(size: int) -> None:
    mapped("things", "key", ARRAY.copy)
    (file,) = (cache_dir() / "things").iterdir()
    file.write_bytes(file.read_bytes()[:size])
    assert read_cache("things", "key") is None


@pytest.mark.parametrize("dataset", ["digits", "synthetic", "mnist"])
def test_a_dataset_is_the_same_made_and_mapped(dataset: str, mnist_dir: Path) -> None:
    config = TrialConfig(dataset=dataset, data_dir=str(mnist_dir) if dataset == "mnist" else None)
    made = load_data(config)
    written = {file: file.stat().st_mtime_ns for file in cache_dir().rglob("*.npy")}
    clear_cache()
    again = load_data(config)
    assert {file: file.stat().st_mtime_ns for file in cache_dir().rglob("*.npy")} == written
    assert (again.digest, again.classes) == (made.digest, made.classes)
    assert torch.equal(again.mean, made.mean)
    assert torch.equal(again.std, made.std)
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(again, name).images, getattr(made, name).images)
        assert torch.equal(getattr(again, name).labels, getattr(made, name).labels)


@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_of_a_split_are_those_of_a_copy_of_its_images(shuffled: bool) -> None:
    split = load_data(TrialConfig(dataset="synthetic", image_size=8, train_samples=300)).train
    copy = make_split(split.images.permute(0, 2, 3, 1).numpy(), split.labels, 10, "copy")
    assert split.places is not None
    order = shuffled_order(len(split), torch.Generator().manual_seed(3), split.device) if shuffled else None
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.3)
    batches = [
        list(epoch_batches(each, batch_size=64, mean=mean, std=std, order=order)) for each in (split, copy)
    ]
    for (images, labels), (expected, known) in zip(*batches, strict=True):
        assert torch.equal(images, expected)
        assert images.stride() == expected.stride()
        assert torch.equal(labels, known)


def test_images_and_labels_are_taken_from_what_was_taken() -> None:
    whole = load_data(TrialConfig(dataset="synthetic", image_size=8)).test
    once = whole.take(torch.tensor([4, 9, 2, 7]))
    twice = once.take(torch.tensor([3, 0]), torch.tensor([1, 0]))
    assert torch.equal(twice.images, whole.images[[7, 4]])
    assert torch.equal(images_at(twice, [1]), whole.images[[4]])
    assert twice.labels.tolist() == [1, 0]
    assert len({whole.fingerprint, once.fingerprint, twice.fingerprint}) == 3


def _never() -> NDArray[Any]:
    raise ValueError("no images today")
