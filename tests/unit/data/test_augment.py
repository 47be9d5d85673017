from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lab import registry
from lab.data.augment import crop_padding, horizontal_flip, random_crop

_sizes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(4, 40), st.integers(4, 40))
_every = pytest.mark.parametrize(
    "augment", [registry.augmentations[name].load() for name in registry.augmentations]
)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randint(1, 256, shape, generator=_seeded(seed), dtype=torch.uint8)


@_every
@given(_sizes, st.integers(0, 2**32 - 1), st.booleans())
def test_shape_and_type_stay_and_a_seed_repeats(
    augment: Callable[[Tensor, torch.Generator], Tensor],
    shape: tuple[int, ...],
    seed: int,
    channels_last: bool,
) -> None:
    images = _images(shape, seed)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    result = augment(images, _seeded(seed))
    assert result.shape == images.shape
    assert result.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(result, augment(images.contiguous(), _seeded(seed)))


@given(_sizes, st.integers(0, 2**32 - 1))
def test_a_flip_mirrors_or_keeps_each_image(shape: tuple[int, ...], seed: int) -> None:
    images = _images(shape, seed)
    for before, after in zip(images, horizontal_flip(images, _seeded(seed)), strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(2))


@given(_sizes, st.integers(0, 2**32 - 1))
def test_a_crop_is_a_window_of_the_image_padded_black(shape: tuple[int, ...], seed: int) -> None:
    images = _images(shape, seed)
    height, width = shape[2:]
    padding = crop_padding(height, width)
    padded = F.pad(images, (padding,) * 4)
    for index, after in enumerate(random_crop(images, _seeded(seed))):
        windows = padded[index].unfold(1, height, 1).unfold(2, width, 1)  # [C, down, right, H, W]
        same = (windows == after[:, None, None]).all(0).all(-1).all(-1)  # [down, right]
        assert same.any()


def test_about_half_of_the_images_are_flipped() -> None:
    images = _images((2_000, 1, 1, 2), 0)
    images[:, :, :, 0] = 0
    flipped = horizontal_flip(images, _seeded(0))[:, 0, 0, 0] != 0
    assert 900 < int(flipped.sum()) < 1_100


def test_every_offset_of_a_crop_comes_up_equally_often() -> None:
    images = torch.zeros(8_100, 1, 32, 32, dtype=torch.uint8)
    images[:, 0, 16, 16] = 1
    places = random_crop(images, _seeded(0)).flatten(1).to(torch.float32).argmax(1)
    offsets, counts = places.unique(return_counts=True)
    assert len(offsets) == 9 * 9
    assert 50 < int(counts.min()) <= int(counts.max()) < 160  # 100 expected, deviation 10


@pytest.mark.parametrize(("size", "padding"), [(4, 1), (8, 1), (16, 2), (28, 3), (32, 4), (224, 4)])
def test_the_padding_of_a_crop_fits_the_image(size: int, padding: int) -> None:
    assert crop_padding(size, size) == padding
