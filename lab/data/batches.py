"""Batches from a split that lies on the device as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lab import registry
from lab.data.base import Split, gather

__all__ = ["count_batches", "epoch_batches", "normalise"]


def epoch_batches(
    split: Split,
    *,
    batch_size: int,
    mean: Tensor,
    std: Tensor,
    generator: torch.Generator | None = None,
    augment: Sequence[str] = (),
    augment_generator: torch.Generator | None = None,
    memory_format: torch.memory_format = torch.channels_last,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images, normalised float32 [B, C, H, W], and labels [B], each image once.

    Args:
        split: gives the device that everything happens on.
        batch_size: images per batch. The last one is short; shuffled, a single image left over joins the batch before,
            because batch normalisation cannot train on one.
        mean: per channel [C], for pixels from 0 to 1.
        std: likewise.
        generator: a CPU generator that shuffles the images; None keeps their order.
        augment: names of augmentations, applied in order.
        augment_generator: the CPU generator they draw from.
        memory_format: of the images in memory.

    Raises:
        ValueError: `augment` without its generator.
        ConfigError: an unknown augmentation.
    """
    if augment and augment_generator is None:
        raise ValueError("augment needs an augment_generator")
    steps = [registry.augmentations[name].load() for name in augment]
    affine = _affine(mean, std, split.images.shape[3], memory_format)  # once: each is a launch on a GPU
    for start, stop, order in _batches(split, batch_size, generator):
        if order is None:
            images, labels = split.images[start:stop], split.labels[start:stop]
        else:
            index = order[start:stop]
            images, labels = gather(split.images, index), split.labels.index_select(0, index)
        for step in steps:
            images = step(images, augment_generator)
        yield _apply(images, affine, memory_format), labels


def count_batches(images: int, batch_size: int, *, shuffled: bool = True) -> int:
    """Return how many batches `epoch_batches` makes of so many images."""
    return sum(1 for _ in _bounds(images, batch_size, shuffled))


def normalise(
    images: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format = torch.channels_last
) -> Tensor:
    """Return uint8 images [B, C, H, W] as float32 `(images / 255 - mean) / std`.

    Args:
        images: pixels from 0 to 255.
        mean: per channel [C], for pixels from 0 to 1; on the device of the images.
        std: likewise.
        memory_format: of the result.
    """
    return _apply(images, _affine(mean, std, images.shape[3], memory_format), memory_format)


def _affine(
    mean: Tensor, std: Tensor, width: int, memory_format: torch.memory_format
) -> tuple[Tensor, Tensor]:
    """Return scale and shift for raw pixels, as `_apply` wants them in this memory format."""
    scale, shift = 1 / (255 * std), -mean / std  # [C]
    if memory_format == torch.channels_last:
        return scale.repeat(width), shift.repeat(width)  # [W * C]
    return scale.view(-1, 1, 1), shift.view(-1, 1, 1)


def _apply(images: Tensor, affine: tuple[Tensor, Tensor], memory_format: torch.memory_format) -> Tensor:
    result = images.to(torch.float32, memory_format=memory_format)  # a new tensor: changed in place below
    scale, shift = affine
    if memory_format == torch.channels_last:
        # Whole rows of pixels [B, H, W * C]: a loop over three channels would be six times as slow on a CPU.
        result.permute(0, 2, 3, 1).flatten(2).mul_(scale).add_(shift)  # a view, all the way
    else:
        result.mul_(scale).add_(shift)
    return result


def _batches(
    split: Split, batch_size: int, generator: torch.Generator | None
) -> Iterator[tuple[int, int, Tensor | None]]:
    order = None
    if generator is not None:
        # one copy for the whole epoch: a copy at each step would make the host wait for the device
        order = torch.randperm(len(split), generator=generator).to(split.images.device)
    for start, stop in _bounds(len(split), batch_size, generator is not None):
        yield start, stop, order


def _bounds(images: int, batch_size: int, shuffled: bool) -> Iterator[tuple[int, int]]:
    start = 0
    while start < images:
        stop = min(start + batch_size, images)
        if shuffled and batch_size > 1 and images - stop == 1:
            stop = images
        yield start, stop
        start = stop
