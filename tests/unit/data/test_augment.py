from __future__ import annotations

import itertools
import re
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lab import registry
from lab.config import TrialConfig
from lab.data import Augmentation, build_augmentations
from lab.data.augment.building import augmentation_faults
from lab.data.augment.erasing import cutout
from lab.data.augment.shifts import automatic_padding, horizontal_flip, random_crop, translation
from lab.data.augment.warps import rotation

_OPTIONS: dict[str, dict[str, Any]] = {
    "cutout": {"cutout_size": 0.3},
    "horizontal_flip": {},
    "randaugment": {"randaugment_ops": 2, "randaugment_magnitude": 20},
    "random_crop": {"crop_padding": 2},
    "random_erasing": {"erasing_probability": 0.8},
    "random_resized_crop": {"crop_scale": 0.2},
    "rotation": {"rotation_degrees": 30.0},
    "translation": {"translation_fraction": 0.3},
}
_EVERY = {name: partial(registry.augmentations[name].load(), **options) for name, options in _OPTIONS.items()}

_sizes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(4, 40), st.integers(4, 40))
_seeds = st.integers(0, 2**32 - 1)
_MIXING = {"mixup", "cutmix"}  # tests/unit/data/test_mixing.py
_ROUNDED = {"randaugment", "random_resized_crop", "rotation"}
_every = pytest.mark.parametrize("augment", _EVERY.values(), ids=_EVERY)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randint(1, 256, shape, generator=_seeded(seed), dtype=torch.uint8)


def test_every_augmentation_is_tested_here() -> None:
    assert set(_EVERY) | _MIXING == set(registry.augmentations)


@_every
@given(_sizes, _seeds, st.booleans())
def test_shape_and_type_stay_and_a_seed_repeats(
    augment: Augmentation, shape: tuple[int, ...], seed: int, channels_last: bool
) -> None:
    images = _images(shape, seed)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    result = augment(images, _seeded(seed))
    assert result.shape == images.shape
    assert result.dtype == torch.uint8
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)
    assert torch.equal(result, augment(images.contiguous(), _seeded(seed)))


@_every
def test_each_image_of_a_batch_is_changed_by_its_own_draw(augment: Augmentation) -> None:
    images = _images((1, 3, 16, 16), 0).expand(32, 3, 16, 16)
    results = augment(images, _seeded(0))
    assert len(results.flatten(1).unique(dim=0)) >= 2


@_every
def test_what_a_batch_draws_does_not_depend_on_its_pixels(augment: Augmentation) -> None:
    states = []
    for seed in (1, 2):
        generator = _seeded(0)
        augment(_images((7, 3, 16, 16), seed), generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


@_every
def test_the_images_beside_it_change_nothing(augment: Augmentation) -> None:
    images = _images((16, 3, 16, 16), 0)
    others = _images((16, 3, 16, 16), 1)
    mixed = torch.where(torch.arange(16)[:, None, None, None] % 2 == 0, images, others)
    assert torch.equal(augment(images, _seeded(0))[::2], augment(mixed, _seeded(0))[::2])


@given(st.permutations(list(_OPTIONS)), st.integers(0, len(_OPTIONS)), _sizes, _seeds)
def test_they_compose_in_any_order(
    names: list[str], count: int, shape: tuple[int, int, int, int], seed: int
) -> None:
    used = tuple(names[:count])
    options = {key: value for name in used for key, value in _OPTIONS[name].items()}
    images, generator = _images(shape, seed), _seeded(seed)
    expected, again = images, _seeded(seed)
    for step in build_augmentations(TrialConfig(augment=used, **options)):
        images = step(images, generator)
    for name in used:
        expected = _EVERY[name](expected, again)
    assert images.shape == shape
    assert torch.equal(images, expected)


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (("mixup", "random_crop"), "mixup mixes .*, so it must come last; write random_crop,mixup"),
        (("cutout", "cutmix", "rotation", "mixup"), "cutmix .*; write cutout,rotation,cutmix,mixup"),
    ],
)
def test_what_mixes_images_must_come_last(names: tuple[str, ...], right: str) -> None:
    (fault,) = augmentation_faults(TrialConfig(augment=names), (3, 32, 32))
    assert fault.key == "augment"
    assert re.search(right, fault.message)
    proper = tuple(right.rsplit(" ")[-1].split(","))
    assert augmentation_faults(TrialConfig(augment=proper), (3, 32, 32)) == []


def test_options_that_are_not_given_are_the_configs_defaults() -> None:
    images = _images((8, 3, 32, 32), 0)
    rotate, crop = build_augmentations(TrialConfig(augment=("rotation", "random_crop", "mixup")))
    assert torch.equal(rotate(images, _seeded(0)), rotation(images, _seeded(0), rotation_degrees=15))
    assert torch.equal(crop(images, _seeded(0)), random_crop(images, _seeded(0), crop_padding=4))


@given(_sizes, _seeds)
def test_a_flip_mirrors_or_keeps_each_image(shape: tuple[int, ...], seed: int) -> None:
    images = _images(shape, seed)
    for before, after in zip(images, horizontal_flip(images, _seeded(seed)), strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(2))


def test_about_half_of_the_images_are_flipped() -> None:
    images = _images((2_000, 1, 1, 2), 0)
    images[:, :, :, 0] = 0
    flipped = horizontal_flip(images, _seeded(0))[:, 0, 0, 0] != 0
    assert 900 < int(flipped.sum()) < 1_100


@given(_sizes, _seeds, st.one_of(st.none(), st.integers(1, 9)))
def test_a_crop_is_a_window_of_the_image_padded_black(
    shape: tuple[int, ...], seed: int, asked: int | None
) -> None:
    images = _images(shape, seed)
    height, width = shape[2:]
    padding = automatic_padding(height, width) if asked is None else asked
    padded = F.pad(images, (padding,) * 4)
    for index, after in enumerate(random_crop(images, _seeded(seed), crop_padding=asked)):
        windows = padded[index].unfold(1, height, 1).unfold(2, width, 1)  # [C, down, right, H, W]
        same = (windows == after[:, None, None]).all(0).all(-1).all(-1)  # [down, right]
        assert same.any()


@pytest.mark.parametrize(("padding", "reached"), [(None, 4), (1, 1), (6, 6)])
def test_every_offset_of_a_crop_comes_up_equally_often(padding: int | None, reached: int) -> None:
    sides = 2 * reached + 1
    images = torch.zeros(100 * sides**2, 1, 32, 32, dtype=torch.uint8)
    images[:, 0, 16, 16] = 1
    places = random_crop(images, _seeded(0), crop_padding=padding).flatten(1).to(torch.float32).argmax(1)
    offsets, counts = places.unique(return_counts=True)
    expected = itertools.product(range(16 - reached, 17 + reached), repeat=2)
    assert offsets.tolist() == [32 * row + column for row, column in expected]
    assert 50 < int(counts.min()) <= int(counts.max()) < 160  # 100 expected, deviation 10


@pytest.mark.parametrize(("size", "padding"), [(4, 1), (8, 1), (16, 2), (28, 3), (32, 4), (224, 4)])
def test_the_padding_of_a_crop_fits_the_image(size: int, padding: int) -> None:
    assert automatic_padding(size, size) == padding


@pytest.mark.parametrize("degrees", [0.0, 1e-4])
@given(_sizes, _seeds)
def test_hardly_turning_changes_nothing(degrees: float, shape: tuple[int, ...], seed: int) -> None:
    images = _images(shape, seed).int()
    turned = rotation(images.to(torch.uint8), _seeded(seed), rotation_degrees=degrees).int()
    assert int((turned - images).abs().max()) <= (0 if degrees == 0 else 1)


@given(st.integers(1, 4), st.integers(4, 12), st.integers(4, 12), _seeds, st.floats(1, 180))
def test_turning_interpolates_between_the_four_nearest_pixels(
    count: int, height: int, width: int, seed: int, degrees: float
) -> None:
    images = _images((count, 2, height, width), seed)
    angles = (2 * torch.rand(count, generator=_seeded(seed)).double() - 1) * degrees
    expected = torch.stack(
        [_turned(image, angle) for image, angle in zip(images, angles.deg2rad(), strict=True)]
    )
    turned = rotation(images, _seeded(seed), rotation_degrees=degrees)
    assert (turned.double() - expected).abs().max() < 0.51  # rounded, from positions in single precision


def _turned(image: Tensor, angle: Tensor) -> Tensor:
    """Turn one image [C, H, W] about its centre, pixel by pixel, in double precision."""
    channels, height, width = image.shape
    result = torch.zeros(channels, height, width, dtype=torch.float64)
    cos, sin = float(angle.cos()), float(angle.sin())
    for row, column in itertools.product(range(height), range(width)):
        y, x = row - (height - 1) / 2, column - (width - 1) / 2
        from_y = sin * x + cos * y + (height - 1) / 2
        from_x = cos * x - sin * y + (width - 1) / 2
        for near_y, near_x in itertools.product((0, 1), repeat=2):
            at_y, at_x = int(from_y // 1) + near_y, int(from_x // 1) + near_x
            if 0 <= at_y < height and 0 <= at_x < width:
                weight = (1 - abs(from_y - at_y)) * (1 - abs(from_x - at_x))
                result[:, row, column] += weight * image[:, at_y, at_x]
    return result


def test_angles_fill_the_range_evenly() -> None:
    images = torch.zeros(2_000, 1, 41, 41, dtype=torch.uint8)
    images[:, :, 20, 21:] = 255  # a pointer to the right
    turned = rotation(images, _seeded(0), rotation_degrees=30)[:, 0].double()
    place = torch.arange(41.0, dtype=torch.float64) - 20
    down, right = (turned * place[:, None]).sum((1, 2)), (turned * place).sum((1, 2))
    angles = torch.atan2(down, right).rad2deg()
    assert 29 < float(angles.abs().max()) < 31
    shares = torch.histc(angles, 6, -30, 30) / len(angles)
    assert torch.allclose(shares, torch.tensor(1 / 6, dtype=torch.float64), atol=0.03)


@given(_sizes, _seeds, st.floats(0.01, 0.9))
def test_a_translation_shifts_by_whole_pixels(shape: tuple[int, ...], seed: int, fraction: float) -> None:
    images = _images(shape, seed)
    furthest = torch.tensor(shape[2:]) * fraction
    draws = (2 * torch.rand(2, len(images), generator=_seeded(seed)) - 1) * furthest[:, None]
    moved = translation(images, _seeded(seed), translation_fraction=fraction)
    shifts = draws.round().long().T.tolist()
    assert all(abs(down) <= 0.5 + furthest[0] and abs(right) <= 0.5 + furthest[1] for down, right in shifts)
    for before, after, (down, right) in zip(images, moved, shifts, strict=True):
        assert torch.equal(after, _shifted(before, down, right))


def _shifted(image: Tensor, down: int, right: int) -> Tensor:
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for row, column in itertools.product(range(height), range(width)):
        if 0 <= row - down < height and 0 <= column - right < width:
            result[:, row, column] = image[:, row - down, column - right]
    return result


def test_shifts_reach_both_ends_and_nothing_beyond() -> None:
    images = torch.zeros(4_000, 1, 20, 40, dtype=torch.uint8)
    images[:, 0, 10, 20] = 1
    places = translation(images, _seeded(0), translation_fraction=0.1).nonzero()
    assert len(places) == len(images)
    assert places[:, 2].unique().tolist() == list(range(8, 13))
    assert places[:, 3].unique().tolist() == list(range(16, 25))


@given(_sizes, _seeds, st.floats(0.01, 1))
def test_cutout_erases_one_square(shape: tuple[int, int, int, int], seed: int, size: float) -> None:
    count, _, height, width = shape
    images = _images(shape, seed)
    side = max(1, round(size * min(height, width)))
    draws = torch.rand(2, count, generator=_seeded(seed))
    centres = (draws * torch.tensor([[height], [width]])).long().T.tolist()
    for before, after, centre in zip(
        images, cutout(images, _seeded(seed), cutout_size=size), centres, strict=True
    ):
        assert torch.equal(after, _cut_out(before, centre[0], centre[1], side))


def _cut_out(image: Tensor, row: int, column: int, side: int) -> Tensor:
    result = image.clone()
    for down, right in itertools.product(range(side), repeat=2):
        y, x = row - side // 2 + down, column - side // 2 + right
        if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
            result[:, y, x] = 0
    return result


def test_squares_are_centred_anywhere_and_cut_at_the_border() -> None:
    images = torch.ones(6_400, 1, 8, 8, dtype=torch.uint8)
    erased = (cutout(images, _seeded(0), cutout_size=0.25) == 0).sum((1, 2, 3))
    assert erased.unique().tolist() == [1, 2, 4]  # in a corner, at a border, inside
    assert 50 < int((erased == 1).sum()) < 150  # for one centre of 64, two borders cut the square
    single = cutout(images, _seeded(0), cutout_size=0.01) == 0
    counts = single.sum((0, 1))
    assert int(counts.sum()) == len(images)
    assert 50 < int(counts.min()) <= int(counts.max()) < 150


@pytest.mark.gpu
@_every
def test_a_gpu_gives_what_the_cpu_gives(augment: Augmentation) -> None:
    images = _images((64, 3, 32, 32), 0)
    expected = augment(images, _seeded(0)).int()
    result = augment(images.cuda(), _seeded(0)).cpu().int()
    rounding = 1 if augment in [_EVERY[name] for name in _ROUNDED] else 0
    assert int((result - expected).abs().max()) <= rounding
