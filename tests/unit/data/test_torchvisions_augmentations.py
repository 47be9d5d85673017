"""Augmentations that torchvision has, too: the same draw gives what torchvision gives."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lab.data.augment import randaugment as ours
from lab.data.augment.erasing import random_erasing
from lab.data.augment.randaugment import OPERATIONS, randaugment
from lab.data.augment.rectangles import drawn_rectangles
from lab.data.augment.warps import random_resized_crop
from lab.torchvision_import import import_torchvision

_sizes = st.tuples(st.sampled_from([1, 3]), st.integers(4, 40), st.integers(4, 40))
_seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def v2() -> ModuleType:
    return import_torchvision("torchvision.transforms.v2")


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=_seeded(seed), dtype=torch.uint8)


def _furthest(one: Tensor, other: Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


def test_the_operations_are_torchvisions_in_the_same_order(v2: ModuleType) -> None:
    theirs = [name.lower() for name in v2.RandAugment._AUGMENTATION_SPACE]
    assert [name.replace("_", "") for name in OPERATIONS] == theirs


@pytest.mark.parametrize("number", range(len(OPERATIONS)), ids=OPERATIONS)
@given(shape=_sizes, seed=_seeds, magnitude=st.integers(0, 30))
@settings(max_examples=20)  # of each of 14 operations
def test_an_operation_does_what_torchvisions_does(
    number: int, v2: ModuleType, shape: tuple[int, int, int], seed: int, magnitude: int
) -> None:
    images = _images((2, *shape), seed)
    if OPERATIONS[number] == "solarize":  # torchvision's threshold is not quite whole in single precision
        images[images == round(255 * (1 - magnitude / 30))] = 1
    rows = images.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    ours._change(rows, ours._Draw(torch.full((2,), number), torch.tensor([1, -1]), magnitude / 30))
    for sign, before, after in zip((1, -1), images, rows.permute(0, 3, 1, 2), strict=True):
        assert _furthest(after, _torchvisions(v2, number, before, magnitude, sign)) <= 1


def _torchvisions(v2: ModuleType, number: int, image: Tensor, magnitude: int, sign: int) -> Tensor:
    """Apply one of torchvision's operations to an image, uint8 [C, H, W]."""
    transform = v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)
    name = list(transform._AUGMENTATION_SPACE)[number]
    magnitudes, signed = transform._AUGMENTATION_SPACE[name]
    values = magnitudes(31, *image.shape[1:])
    value = 0.0 if values is None else float(values[magnitude]) * (sign if signed else 1)
    changed: Tensor = transform._apply_image_or_video_transform(
        image, name, value, interpolation=transform.interpolation, fill=transform._fill
    )
    return changed


def test_every_operation_comes_up_equally_often_in_both_directions() -> None:
    images = _images((1, 3, 20, 20), 0).expand(4_200, 3, 20, 20)
    results = randaugment(images, _seeded(0), randaugment_ops=1, randaugment_magnitude=30)
    _, counts = results.flatten(1).unique(dim=0, return_counts=True)
    single, double = counts[counts < 225], counts[counts >= 225]  # of 300 each, nine have two directions
    assert (len(single), len(double)) == (18, 5)
    assert 110 < int(single.min()) <= int(single.max()) < 190
    assert 250 < int(double.min()) <= int(double.max()) < 350


@pytest.mark.parametrize("channels", [2, 4])
def test_it_takes_any_number_of_channels(channels: int) -> None:
    images = _images((64, channels, 9, 14), 0)
    assert randaugment(images, _seeded(0), randaugment_ops=3, randaugment_magnitude=9).shape == images.shape


def test_no_strength_hardly_changes_anything_but_contrast() -> None:
    images = torch.full((64, 3, 8, 8), 100, dtype=torch.uint8)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 255
    results = randaugment(images, _seeded(0), randaugment_ops=1, randaugment_magnitude=0)
    changed = (results != images).flatten(1).any(1)
    assert 0 < int(changed.sum()) < 30  # only equalize, and solarize, which inverts white


@given(st.integers(1, 5), _sizes, _seeds, st.floats(0.01, 1))
def test_a_resized_crop_is_torchvisions(
    v2: ModuleType, count: int, shape: tuple[int, int, int], seed: int, scale: float
) -> None:
    images = _images((count, *shape), seed)
    size = shape[1:]
    starts, sides, fits = drawn_rectangles(
        count, size, (scale, 1.0), (3 / 4, 4 / 3), _seeded(seed), largest=size
    )
    results = random_resized_crop(images, _seeded(seed), crop_scale=scale)
    for before, after, start, side, fit in zip(images, results, starts.T, sides.T, fits, strict=True):
        if fit:
            crop = v2.functional.resized_crop(before, *start.tolist(), *side.tolist(), size, antialias=True)
            assert _furthest(after, crop) <= 1


def test_a_crop_that_never_fits_is_the_central_part() -> None:
    images = _images((4, 3, 8, 40), 0)
    results = random_resized_crop(
        images, _seeded(0), crop_scale=1.0
    )  # as wide as it is, it would be too high
    part = images[:, :, :, 14:25].float()  # 8 rows allow 4/3 times as many columns
    expected = torch.nn.functional.interpolate(part, size=(8, 40), mode="bilinear").round()
    assert _furthest(results, expected) <= 1


@given(
    st.tuples(st.integers(4, 64), st.integers(4, 64)),
    _seeds,
    st.sampled_from([((0.02, 0.33), (0.3, 3.3)), ((0.08, 1.0), (3 / 4, 4 / 3))]),
)
def test_rectangles_fit_and_have_the_sizes_and_shapes_asked_for(
    size: tuple[int, int], seed: int, ranges: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    areas, ratios = ranges
    starts, sides, fits = drawn_rectangles(200, size, areas, ratios, _seeded(seed), largest=size)
    for start, (down, right), fit in zip(starts.T.tolist(), sides.T.tolist(), fits, strict=True):
        if fit:
            assert all(
                0 <= at <= whole - side for at, side, whole in zip(start, (down, right), size, strict=True)
            )
            assert (down - 0.5) * (right - 0.5) <= areas[1] * math.prod(size)
            assert (down + 0.5) * (right + 0.5) >= areas[0] * math.prod(size)
            assert (down - 0.5) / (right + 0.5) <= ratios[1]
            assert (down + 0.5) / (right - 0.5) >= ratios[0]


def test_the_rectangles_are_as_large_as_torchvisions_and_everywhere(v2: ModuleType) -> None:
    torch.manual_seed(0)
    theirs = v2.RandomErasing()
    drawn = [theirs.make_params([torch.zeros(3, 32, 32)]) for _ in range(2_000)]
    _, sides, fits = drawn_rectangles(2_000, (32, 32), (0.02, 0.33), (0.3, 3.3), _seeded(0), largest=(31, 31))
    assert bool(fits.all())
    for quantile in (0.1, 0.5, 0.9):
        for own, key in zip(sides.float(), "hw", strict=True):
            expected = torch.tensor([float(one[key]) for one in drawn]).quantile(quantile)
            assert float(own.quantile(quantile)) == pytest.approx(float(expected), abs=1)
    black = random_erasing(torch.ones(4_000, 1, 8, 8, dtype=torch.uint8), _seeded(0), erasing_probability=1.0)
    often = (black == 0).float().mean((0, 1))
    assert float(often.min()) > 0.02
    assert float(often.max()) < 0.35


@given(_sizes, _seeds)
def test_erasing_blackens_one_rectangle_of_the_images_chosen(shape: tuple[int, int, int], seed: int) -> None:
    images = 1 + _images((40, *shape), seed) // 2
    results = random_erasing(images, _seeded(seed), erasing_probability=0.5)
    for before, after in zip(images, results, strict=True):
        erased = (after == 0).all(0)
        rows, columns = erased.any(1), erased.any(0)
        assert torch.equal(erased, rows[:, None] & columns)
        assert torch.equal(after, before * ~erased)


def test_as_many_images_are_erased_as_asked_for() -> None:
    images = torch.ones(2_000, 1, 16, 16, dtype=torch.uint8)
    for probability in (0.1, 0.5, 1.0):
        erased = (random_erasing(images, _seeded(0), erasing_probability=probability) == 0).flatten(1).any(1)
        assert float(erased.float().mean()) == pytest.approx(probability, abs=0.04)
