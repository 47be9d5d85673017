"""Random images in place of a dataset that is not here, to time steps on."""

from __future__ import annotations

from typing import NamedTuple

import torch

from lab.config import TrialConfig
from lab.data.base import Dataset, MemorySplit
from lab.data.load import describe, settled

__all__ = ["Sizes", "expected_sizes", "stand_in"]

_UNKNOWN = 10_000  # training images of a dataset that does not say before it is loaded
_TEST_SHARE = 6  # training images for each test image, as in MNIST and CIFAR-10
_MEAN, _DEVIATION = 0.5, 0.29  # of random pixels


class Sizes(NamedTuple):
    """Numbers of images."""

    train: int
    val: int
    test: int

    @classmethod
    def of(cls, dataset: Dataset) -> Sizes:
        """Return those of the splits of a dataset."""
        return cls(len(dataset.train), 0 if dataset.val is None else len(dataset.val), len(dataset.test))


def expected_sizes(config: TrialConfig) -> Sizes:
    """Return how many images the splits of the config's data are expected to have, without loading it.

    Raises:
        LabError: as `describe`.
    """
    images = describe(config).train_images or _UNKNOWN
    val = round(images / config.folds if config.folds else images * config.val_fraction)
    return Sizes(config.train_samples or images - val, val, images // _TEST_SHARE)


def stand_in(config: TrialConfig, images: int, device: torch.device) -> Dataset:
    """Return random images of the shape and with the classes of the config's data, in splits of `images` each.

    Raises:
        LabError: as `describe`.
    """
    info = describe(settled(config))
    channels, height, width = info.shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, height, width, channels), dtype=torch.uint8, generator=generator)
    labels = torch.arange(images) % len(info.classes)
    split = MemorySplit(pixels.permute(0, 3, 1, 2), labels).to(device)
    return Dataset(
        name=config.dataset,
        classes=info.classes,
        train=split,
        val=split,
        test=split,
        mean=torch.full((channels,), _MEAN, device=device),
        std=torch.full((channels,), _DEVIATION, device=device),
        digest="0" * 16,
        source="random images",
    )
