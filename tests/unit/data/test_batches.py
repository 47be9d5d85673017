from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from lab.data import (
    Augmentation,
    LabelledMixing,
    MemorySplit,
    balanced_order,
    batch_sizes,
    epoch_batches,
    normalise,
    shuffled_order,
)
from lab.data.augment.shifts import horizontal_flip, random_crop

_BOTH = (random_crop, horizontal_flip)
_CPU = torch.device("cpu")
_MEAN, _STD = torch.tensor([0.5, 0.25, 0.125]), torch.tensor([0.25, 0.5, 2.0])


def _split(count: int, size: int = 4) -> MemorySplit:
    images = torch.randint(0, 256, (count, 3, size, size), generator=_seeded(1), dtype=torch.uint8)
    return MemorySplit(images.contiguous(memory_format=torch.channels_last), torch.arange(count))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _epoch(
    split: MemorySplit,
    batch_size: int,
    seed: int | None = None,
    augment: tuple[Augmentation, ...] = (),
    only: list[int] | None = None,
    mix: LabelledMixing | None = None,
) -> list[tuple[Tensor, Tensor]]:
    order = None if seed is None else shuffled_order(len(split), _seeded(seed), _CPU)
    return list(
        epoch_batches(
            split,
            batch_size=batch_size,
            mean=_MEAN,
            std=_STD,
            order=order,
            only=only,
            augment=augment,
            mix=mix,
            augment_generator=_seeded(7),
        )
    )


@given(st.integers(1, 70), st.integers(1, 20), st.one_of(st.none(), st.integers(0, 2**32 - 1)))
def test_every_image_comes_once_with_its_label(count: int, batch_size: int, seed: int | None) -> None:
    split = _split(count)
    batches = _epoch(split, batch_size, seed)
    labels = torch.cat([labels for _, labels in batches])
    assert sorted(labels.tolist()) == list(range(count))
    images = torch.cat([images for images, _ in batches])
    expected = (split.images[labels].double() / 255 - _MEAN.view(1, 3, 1, 1)) / _STD.view(1, 3, 1, 1)
    torch.testing.assert_close(images.double(), expected, rtol=0, atol=1e-5)


@given(st.integers(1, 70), st.integers(1, 20), st.one_of(st.none(), st.just(0)))
def test_batches_are_counted_and_as_large_as_asked_for(count: int, batch_size: int, seed: int | None) -> None:
    sizes = [len(labels) for _, labels in _epoch(_split(count), batch_size, seed)]
    assert sizes == batch_sizes(count, batch_size, shuffled=seed is not None)
    assert all(size == batch_size for size in sizes[:-2])
    if seed is not None and batch_size > 1 and count > 1:
        assert min(sizes) > 1
        assert max(sizes) <= batch_size + 1
    else:
        assert max(sizes) <= batch_size


def test_a_single_image_left_over_joins_the_batch_before() -> None:
    assert [len(labels) for _, labels in _epoch(_split(9), 4, seed=0)] == [4, 5]
    assert [len(labels) for _, labels in _epoch(_split(9), 4)] == [4, 4, 1]


@given(
    st.integers(1, 70),
    st.integers(1, 20),
    st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    st.lists(st.floats(0, 1, exclude_max=True), max_size=8),
)
def test_only_some_batches_are_those_of_the_whole_epoch(
    count: int, batch_size: int, seed: int | None, chosen: list[float]
) -> None:
    split = _split(count)
    batches = _epoch(split, batch_size, seed)
    only = [int(share * len(batches)) for share in chosen]  # in any order, some repeated
    for number, (images, labels) in zip(only, _epoch(split, batch_size, seed, only=only), strict=True):
        assert torch.equal(images, batches[number][0])
        assert torch.equal(labels, batches[number][1])


@pytest.mark.parametrize("number", [-1, 3])
def test_a_batch_that_the_epoch_does_not_have_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=rf"batches are numbered 0\.\.2, but `only` contains \[{number}\]"):
        _epoch(_split(12), 4, only=[0, number])


def test_an_order_of_another_length_is_refused() -> None:
    batches = epoch_batches(_split(4), batch_size=2, mean=_MEAN, std=_STD, order=torch.arange(3))
    with pytest.raises(ValueError, match="one place for each of 4 images, but has 3"):
        next(batches)


def test_a_seed_gives_the_same_epoch() -> None:
    split = _split(40, size=16)
    for first, again in zip(_epoch(split, 8, 3, _BOTH), _epoch(split, 8, 3, _BOTH), strict=True):
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])


def test_the_next_order_of_a_generator_is_another() -> None:
    generator = _seeded(3)
    first, second = (shuffled_order(40, generator, _CPU) for _ in range(2))
    assert not torch.equal(first, second)
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(40))


_unequal = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any)  # images of each class


@given(_unequal, st.integers(0, 2**32 - 1))
def test_a_balanced_order_is_as_long_as_the_split_and_a_seed_repeats_it(counts: list[int], seed: int) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    generator = _seeded(seed)
    first, second = balanced_order(labels, generator), balanced_order(labels, generator)
    assert first.shape == labels.shape
    assert first.dtype == torch.int64
    assert 0 <= int(first.min()) <= int(first.max()) < len(labels)
    assert torch.equal(first, balanced_order(labels, _seeded(seed)))
    assert len(labels) < 30 or not torch.equal(first, second)


def test_it_draws_each_class_and_within_it_each_image_equally_often() -> None:
    counts = torch.tensor([3000, 0, 900, 90, 10])
    labels = torch.arange(5).repeat_interleave(counts)[torch.randperm(4_000, generator=_seeded(1))]
    generator = _seeded(0)
    drawn = torch.cat([balanced_order(labels, generator) for _ in range(10)])
    weights = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)[labels]
    theirs = torch.tensor(
        list(WeightedRandomSampler(weights.tolist(), 40_000, generator=_seeded(2)))  # torch's
    )
    for order in (drawn, theirs):
        classes = torch.bincount(labels[order], minlength=5)
        assert classes[1] == 0
        assert np.allclose(classes[[0, 2, 3, 4]], 10_000, atol=400)  # deviation 87
        rarest = torch.bincount(order, minlength=4_000)[labels == 4]
        assert np.allclose(rarest, 1_000, atol=150)  # deviation 31
    commonest = torch.bincount(drawn, minlength=4_000)[labels == 0].double()
    assert float(commonest.var()) == pytest.approx(
        10_000 / 3_000, rel=0.15
    )  # Poisson's, as in independent draws


def test_mixing_comes_last_on_normalised_images() -> None:
    seen = []

    def mix(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.append((images, labels, torch.rand(1, generator=generator)))
        return images + 1, labels[:, None].float()

    split = _split(12, size=16)
    plain, mixed = _epoch(split, 5, 0, _BOTH), _epoch(split, 5, 0, _BOTH, mix=mix)
    assert torch.equal(mixed[0][0], plain[0][0] + 1)
    assert torch.equal(mixed[0][1], plain[0][1][:, None].float())
    assert len({float(draw) for *_, draw in seen}) == len(seen) == 3


def test_shuffling_and_augmentation_leave_the_global_generator_and_the_split_alone() -> None:
    split = _split(20, size=16)
    state, pixels = torch.get_rng_state(), split.images.clone()
    _epoch(split, 6, 0, _BOTH)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(split.images, pixels)


def test_a_crop_pads_with_black_as_normalised() -> None:
    white = MemorySplit(
        torch.full((64, 3, 16, 16), 255, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64)
    )
    images, _ = _epoch(white, 64, augment=(random_crop,))[0]
    black = -_MEAN / _STD
    assert torch.isclose(images.amin((0, 2, 3)), black, atol=1e-5).all()


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 1, 5, 7), (1, 4, 1, 1)])
def test_normalise_gives_the_memory_format_asked_for(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    pixels = torch.randint(0, 256, shape, generator=_seeded(0), dtype=torch.uint8)
    mean, std = torch.rand(shape[1], generator=_seeded(1)), torch.rand(shape[1], generator=_seeded(2)) + 0.1
    result = normalise(pixels, mean, std, memory_format)
    expected = (pixels / 255 - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_augmenting_without_a_generator_is_refused() -> None:
    batches = epoch_batches(_split(4), batch_size=2, mean=_MEAN, std=_STD, augment=[horizontal_flip])
    with pytest.raises(ValueError, match="needs an augment_generator"):
        next(batches)


def test_pixels_are_freed_once_a_batch_is_made_of_them() -> None:
    pixels: list[weakref.ref[Tensor]] = []

    def look(images: Tensor, _generator: torch.Generator) -> Tensor:
        pixels.append(weakref.ref(images))
        return images

    batches = epoch_batches(
        _split(6), batch_size=2, mean=_MEAN, std=_STD, augment=[look], augment_generator=_seeded(7)
    )
    freed = [pixels[-1]() is None for _ in batches]

    assert freed == [True, True, True]
