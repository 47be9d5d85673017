"""Augmentations that mix images with each other, and their labels with them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lab import registry
from lab.config import TrialConfig
from lab.data import LabelledMixing, build_augmentations, build_mixing
from lab.data.augment.mixing import Mixing, cutmix, mixup
from lab.errors import ConfigError
from lab.torchvision_import import import_torchvision

_CLASSES = 5
_OPTIONS: dict[str, dict[str, Any]] = {"cutmix": {"cutmix_alpha": 0.7}, "mixup": {"mixup_alpha": 0.7}}
_EVERY: dict[str, Mixing] = {
    name: partial(registry.augmentations[name].load(), **options) for name, options in _OPTIONS.items()
}

_sizes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(4, 40), st.integers(4, 40))
_seeds = st.integers(0, 2**32 - 1)
_every = pytest.mark.parametrize("mixing", _EVERY.values(), ids=_EVERY)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Return noise and soft labels."""
    generator = _seeded(seed)
    return torch.randn(shape, generator=generator), torch.rand(
        shape[0], _CLASSES, generator=generator
    ).softmax(1)


def _labelled(*names: str, **options: Any) -> LabelledMixing:
    mixing = build_mixing(TrialConfig(augment=names, **options), _CLASSES)
    assert mixing is not None
    return mixing


@_every
@given(_sizes, _seeds, st.booleans())
def test_shapes_and_order_in_memory_stay_and_a_seed_repeats(
    mixing: Mixing, shape: tuple[int, ...], seed: int, channels_last: bool
) -> None:
    images, labels = _batch(shape, seed)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone(), labels.clone()
    mixed, shares = mixing(images, labels, _seeded(seed))
    assert (mixed.shape, mixed.dtype) == (images.shape, torch.float32)
    assert not channels_last or mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(shares.sum(1), torch.ones(len(images)))
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    again = mixing(images.contiguous(), labels, _seeded(seed))
    assert torch.equal(mixed, again[0])
    assert torch.equal(shares, again[1])


@_every
def test_each_image_has_its_own_draw_that_no_pixel_changes(mixing: Mixing) -> None:
    labels = torch.eye(_CLASSES)[torch.arange(40) % _CLASSES]
    states, kept = [], []
    for seed in (1, 2):
        generator = _seeded(0)
        _, shares = mixing(_batch((40, 3, 16, 16), seed)[0], labels, generator)
        states.append(generator.get_state())
        kept.append(shares[range(40), labels.argmax(1)])
    assert torch.equal(*states)
    assert torch.equal(*kept)
    assert len(kept[0].unique()) > 20


@given(_sizes, _seeds, st.floats(0.05, 20))
def test_mixup_is_the_weighted_mean_with_the_image_before(
    shape: tuple[int, ...], seed: int, alpha: float
) -> None:
    images, _ = _batch(shape, seed)
    labels = torch.eye(shape[0] + 1)[: shape[0]]  # a class for each image
    mixed, shares = mixup(images, labels, _seeded(seed), mixup_alpha=alpha)
    expected = (shares[:, : shape[0]] @ images.flatten(1)).view(shape)
    assert torch.allclose(mixed, expected, atol=1e-5)
    assert torch.allclose(shares.sum(1), torch.ones(shape[0]))
    if shape[0] > 2:
        assert all(
            shares[image].nonzero().flatten().tolist() in ([image], [image - 1], [image - 1, image])
            for image in range(1, shape[0])
        )


@given(_sizes, _seeds, st.floats(0.05, 20))
def test_cutmix_puts_a_rectangle_of_the_image_before_in_proportion_to_its_area(
    shape: tuple[int, int, int, int], seed: int, alpha: float
) -> None:
    count = shape[0]
    images = torch.arange(float(count))[:, None, None, None].expand(shape)
    labels = torch.eye(count)
    mixed, shares = cutmix(images, labels, _seeded(seed), cutmix_alpha=alpha)
    for number, image in enumerate(mixed):
        foreign = (image != number).all(0)
        rows, columns = foreign.any(1), foreign.any(0)
        assert torch.equal(foreign, rows[:, None] & columns)
        assert set(image.unique().tolist()) <= {float(number), float((number - 1) % count)}
        if count > 1:
            assert float(shares[number, number]) == pytest.approx(1 - foreign.float().mean().item(), abs=1e-6)


@pytest.mark.parametrize(("alpha", "spread"), [(0.1, 0.456), (1.0, 0.289), (10.0, 0.109)])
def test_shares_are_spread_as_the_beta_distribution_says(alpha: float, spread: float) -> None:
    images, labels = torch.zeros(4_000, 1, 1, 1), torch.eye(2).repeat(2_000, 1)
    _, shares = mixup(images, labels, _seeded(0), mixup_alpha=alpha)
    kept = shares[range(4_000), labels.argmax(1)]
    assert float(kept.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(kept.std()) == pytest.approx(spread, abs=0.01)


def test_the_areas_of_cutmix_are_as_large_as_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = _torchvisions_areas(2_000)
    images, labels = torch.zeros(4_000, 1, 32, 32), torch.eye(2).repeat(2_000, 1)
    _, shares = cutmix(images, labels, _seeded(0), cutmix_alpha=1.0)
    kept = shares[range(4_000), labels.argmax(1)]
    for quantile in (0.1, 0.5, 0.9):
        assert float(kept.quantile(quantile)) == pytest.approx(float(theirs.quantile(quantile)), abs=0.04)


def _torchvisions_areas(count: int) -> Tensor:
    transform = import_torchvision("torchvision.transforms.v2").CutMix(num_classes=2)
    image = torch.zeros(1, 1, 32, 32)
    return torch.tensor([transform.make_params([image])["lam_adjusted"] for _ in range(count)])


def test_a_label_becomes_the_shares_of_its_class() -> None:
    images = torch.zeros(3, 1, 4, 4)
    _, shares = _labelled("mixup", mixup_alpha=1e-3)(images, torch.tensor([4, 0, 4]), _seeded(0))
    assert (shares.shape, shares.dtype) == ((3, _CLASSES), torch.float32)
    assert torch.equal(shares.amax(1) > 0.9, torch.ones(3, dtype=torch.bool))


def test_of_two_each_image_gets_one() -> None:
    count = 400
    images = torch.arange(float(count))[:, None, None, None].expand(count, 1, 16, 16)
    labels = torch.arange(count) % 2
    mixed, shares = _labelled("mixup", "cutmix")(images, labels, _seeded(0))
    apart = (mixed != images) & (mixed != images.roll(1, 0))  # neither of the two images: mixed up
    by_mixup = apart.flatten(1).any(1)
    assert 150 < int(by_mixup.sum()) < 250
    assert bool((apart.flatten(1).all(1) == by_mixup).all())
    assert torch.allclose(shares.sum(1), torch.ones(count))
    for number in range(1, count):
        own = float(shares[number, labels[number]])
        expected = 1 - (images[number] - mixed[number]).mean().item()
        assert own == pytest.approx(expected, abs=1e-3)


def test_without_any_nothing_is_mixed() -> None:
    config = TrialConfig(augment=("random_crop", "mixup"))
    assert len(build_augmentations(config)) == 1
    assert build_mixing(TrialConfig(augment=("random_crop",)), _CLASSES) is None


def _halved(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, mixup_alpha: float
) -> tuple[Tensor, Tensor]:
    return (images + images.flip(0)) / 2, (labels + labels.flip(0)) / 2


def test_one_of_a_users_own_mixes_if_it_takes_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.augmentations, "_entries", dict(registry.augmentations._entries))
    registry.augmentations.register("halved", _halved, ["mixup_alpha"])
    images, labels = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([1, 3])
    assert build_augmentations(TrialConfig(augment=("halved",))) == ()
    mixed, shares = _labelled("halved")(images, labels, _seeded(0))
    assert mixed.flatten().tolist() == [1.0, 1.0]
    assert shares.tolist() == [[0, 0.5, 0, 0.5, 0]] * 2


def _augmented(name: str) -> None:
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([1, 3])
    for augment in build_augmentations(TrialConfig(augment=(name,))):
        augment(images, _seeded(0))
    _labelled(name)(images.float(), labels, _seeded(0))


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        (
            "scaled",
            lambda images, generator: images / 255,
            r"augment: 'scaled' must return images as it gets them, uint8 \[2, 3, 4, 4\] on cpu, but got float32 ",
        ),
        ("cut", lambda images, generator: images[:, :, 1:], r"but got uint8 \[2, 3, 3, 4\] on cpu"),
        ("nothing", lambda images, generator: None, "but got NoneType"),
        (
            "swapped",
            lambda images, labels, generator: (images, labels.argmax(1)),
            r"'swapped' must return labels as it gets them, float32 \[2, 5\] on cpu, but got int64 \[2\] on cpu",
        ),
    ],
)
def test_what_a_users_own_returns_is_checked(
    name: str, target: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.augmentations, "_entries", dict(registry.augmentations._entries))
    registry.augmentations.register(name, target)
    with pytest.raises(ConfigError, match=message):
        _augmented(name)


@pytest.mark.gpu
@_every
def test_a_gpu_gives_what_the_cpu_gives(mixing: Mixing) -> None:
    images, labels = _batch((64, 3, 32, 32), 0)
    expected = mixing(images, labels, _seeded(0))
    result = mixing(images.cuda(), labels.cuda(), _seeded(0))
    assert torch.allclose(result[0].cpu(), expected[0], atol=1e-6)
    assert torch.allclose(result[1].cpu(), expected[1], atol=1e-6)
