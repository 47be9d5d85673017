from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.data.split import Indices, fold_out, hold_out
from lab.errors import DataError

_CLASSES = ("a", "b", "c")


def _labels(counts: list[int]) -> Indices:
    return np.repeat(np.arange(len(counts)), counts)


def _cut(
    labels: Indices, fraction: float, seed: int = 0, groups: list[str] | None = None
) -> tuple[Indices, Indices]:
    cut = {"fraction": fraction, "seed": seed, "classes": _CLASSES, "field": "val_fraction"}
    return hold_out(labels, groups=groups or (), **cut)  # type: ignore[arg-type]


def _folds(labels: Indices, folds: int, seed: int = 0, groups: list[str] | None = None) -> list[Indices]:
    cut = {"folds": folds, "seed": seed, "classes": _CLASSES, "groups": groups or ()}
    return [fold_out(labels, fold=fold, **cut)[1] for fold in range(folds)]  # type: ignore[arg-type]


def _patients(counts: list[int], per_group: int) -> tuple[Indices, list[str]]:
    """Return labels and groups of one class each, of up to `per_group` images."""
    labels = _labels(counts)
    return labels, [f"{label}-{at // per_group}" for at, label in enumerate(labels)]


@given(
    st.lists(st.integers(8, 60), min_size=3, max_size=3),
    st.floats(0.2, 0.8),
    st.integers(0, 2**64),
)
def test_a_split_is_a_stratified_partition(counts: list[int], fraction: float, seed: int) -> None:
    labels = _labels(counts)
    rest, held_out = _cut(labels, fraction, seed)
    assert sorted([*rest, *held_out]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        held = int((labels[held_out] == label).sum())
        assert abs(held - count * len(held_out) / len(labels)) <= 1


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_split(seed: int) -> None:
    labels, groups = _patients([20, 20, 20], 4)
    for kept in (None, groups):
        first, again = _cut(labels, 0.25, seed, kept), _cut(labels, 0.25, seed, kept)
        assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_another_seed_gives_another_split() -> None:
    labels, groups = _patients([80, 80, 80], 4)
    for kept in (None, groups):
        assert not np.array_equal(_cut(labels, 0.25, 0, kept)[1], _cut(labels, 0.25, 1, kept)[1])


def test_images_keep_their_order() -> None:
    for part in _cut(_labels([10, 20, 30]), 0.3):
        assert np.array_equal(part, np.sort(part))


def test_a_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"val_fraction=0.5 needs at least 2 .* only 1 of b; add images"):
        _cut(_labels([5, 1, 5]), 0.5)


def test_a_class_is_named_without_control_characters() -> None:
    with pytest.raises(DataError, match=r"only 1 of \\x1b\[2J; add images"):
        hold_out(_labels([5, 1]), fraction=0.5, seed=0, classes=("a", "\x1b[2J"), field="val_fraction")


def test_too_small_a_fraction_is_to_be_raised() -> None:
    with pytest.raises(
        DataError, match=r"of 12 images leaves 2 on one side, .* 3 classes; raise val_fraction"
    ):
        _cut(_labels([4, 4, 4]), 0.1)


def test_too_large_a_fraction_is_to_be_lowered() -> None:
    with pytest.raises(
        DataError, match=r"of 12 images leaves 1 on one side, .* 3 classes; lower val_fraction"
    ):
        _cut(_labels([4, 4, 4]), 0.9)


@given(st.lists(st.integers(7, 40), min_size=3, max_size=3), st.integers(2, 7), st.integers(0, 2**64))
def test_folds_are_a_stratified_partition(counts: list[int], folds: int, seed: int) -> None:
    labels = _labels(counts)
    found = _folds(labels, folds, seed)
    assert sorted(at for fold in found for at in fold) == list(range(len(labels)))
    for fold in found:
        held = np.bincount(labels[fold], minlength=3)
        assert (abs(held - np.array(counts) / folds) < 1).all()


def test_more_folds_than_images_of_a_class_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"folds=5 needs at least 5 training images per class, .* 3 of b; lower"
    ):
        _folds(_labels([9, 3, 9]), 5)


@given(st.data(), st.integers(2, 5), st.integers(0, 2**64))
def test_no_group_is_in_two_folds_or_on_two_sides(data: st.DataObject, folds: int, seed: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=20, max_size=60))
    groups = [f"p{number}" for number, size in enumerate(sizes) for _ in range(size)]
    labels = np.arange(len(groups)) % 2  # nearly every group has images of both classes
    found = _folds(labels, folds, seed, groups)
    assert sorted(at for fold in found for at in fold) == list(range(len(labels)))
    for fold in found:
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        assert {groups[at] for at in fold}.isdisjoint(groups[at] for at in rest)
        assert abs(len(fold) - len(labels) / folds) <= max(sizes) + 1
    rest, held_out = _cut(labels, 0.3, seed, groups)
    assert {groups[at] for at in held_out}.isdisjoint(groups[at] for at in rest)
    assert abs(len(held_out) - 0.3 * len(labels)) <= max(sizes) + 1


def test_whole_groups_keep_the_shares_of_the_classes() -> None:
    labels, groups = _patients([400, 200, 40], 4)  # a class in a hundred, one in fifty and one in ten groups
    _, held_out = _cut(labels, 0.2, groups=groups)
    assert np.bincount(labels[held_out]).tolist() == [80, 40, 8]
    for fold in _folds(labels, 5, groups=groups):
        assert np.bincount(labels[fold]).tolist() == [80, 40, 8]


def test_groups_too_few_for_the_folds_are_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"folds=4 needs at least 4 groups in group_column, but .* are of 3 groups; lower folds or test_fr",
    ):
        _folds(_labels([4, 4, 4]), 4, groups=[*"aaaa", *"bbbb", *"cccc"])


def test_a_class_of_a_single_group_cannot_be_held_out_whole() -> None:
    groups = [*"aabb", "c", "c", "c", "c", *"aabb"]
    with pytest.raises(
        DataError, match=r"folds=2 would leave no training images of b in fold \d, because too few"
    ):
        _folds(_labels([4, 4, 4]), 2, groups=groups)


def test_a_fraction_that_whole_groups_cannot_meet_is_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"val_fraction=0.01 cannot be met by whole groups: one side would .* 2 groups .* up to 6",
    ):
        _cut(_labels([4, 4, 4]), 0.01, groups=["a"] * 6 + ["b"] * 6)
