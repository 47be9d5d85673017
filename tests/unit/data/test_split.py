from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.data import MemorySplit
from lab.data.split import hold_out
from lab.errors import DataError

_CLASSES = ("a", "b", "c")


def _numbered(counts: list[int]) -> MemorySplit:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.arange(len(labels)).remainder(256).to(torch.uint8).view(-1, 1, 1, 1)
    return MemorySplit(images, labels)


def _cut(split: MemorySplit, fraction: float, seed: int = 0) -> tuple[MemorySplit, MemorySplit]:
    return hold_out(split, fraction=fraction, seed=seed, classes=_CLASSES, field="val_fraction")


@given(
    st.lists(st.integers(8, 60), min_size=3, max_size=3),
    st.floats(0.2, 0.8),
    st.integers(0, 2**64),
)
def test_a_split_is_a_stratified_partition(counts: list[int], fraction: float, seed: int) -> None:
    split = _numbered(counts)
    rest, held_out = _cut(split, fraction, seed)
    both = torch.cat((rest.images, held_out.images)).flatten().tolist()
    assert sorted(both) == sorted(split.images.flatten().tolist())
    for label, count in enumerate(counts):
        held = int((held_out.labels == label).sum())
        assert abs(held - count * len(held_out) / len(split)) <= 1
        assert held + int((rest.labels == label).sum()) == count


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_split(seed: int) -> None:
    split = _numbered([20, 20, 20])
    first, again = _cut(split, 0.25, seed), _cut(split, 0.25, seed)
    assert all(torch.equal(one.images, other.images) for one, other in zip(first, again, strict=True))


def test_another_seed_gives_another_split() -> None:
    split = _numbered([80, 80, 80])
    assert not torch.equal(_cut(split, 0.25, 0)[1].images, _cut(split, 0.25, 1)[1].images)


def test_images_keep_their_labels_and_order() -> None:
    split = _numbered([10, 20, 30])
    for part in _cut(split, 0.3):
        places = part.images.flatten().long()
        assert torch.equal(part.labels, split.labels[places])
        assert torch.equal(places, places.sort().values)


def test_a_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"val_fraction=0.5 needs at least 2 .* only 1 of b; add images"):
        _cut(_numbered([5, 1, 5]), 0.5)


def test_too_small_a_fraction_is_to_be_raised() -> None:
    with pytest.raises(
        DataError, match=r"of 12 images leaves 2 on one side, .* 3 classes; raise val_fraction"
    ):
        _cut(_numbered([4, 4, 4]), 0.1)


def test_too_large_a_fraction_is_to_be_lowered() -> None:
    with pytest.raises(
        DataError, match=r"of 12 images leaves 1 on one side, .* 3 classes; lower val_fraction"
    ):
        _cut(_numbered([4, 4, 4]), 0.9)
