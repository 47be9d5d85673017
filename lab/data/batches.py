"""Batches of a split: in the order that is drawn, augmented and normalised on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lab.data.augment.building import Augmentation, LabelledMixing
from lab.data.base import Split

__all__ = ["balanced_order", "batch_sizes", "epoch_batches", "normalise", "shuffled_order"]


def epoch_batches(
    split: Split,
    *,
    batch_size: int,
    mean: Tensor,
    std: Tensor,
    order: Tensor | None = None,
    only: Sequence[int] | None = None,
    augment: Sequence[Augmentation] = (),
    mix: LabelledMixing | None = None,
    augment_generator: torch.Generator | None = None,
    memory_format: torch.memory_format = torch.channels_last,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images, normalised float32 [B, C, H, W], and labels, int64 [B], or float [B, classes] if they are mixed.

    Args:
        split: everything happens on its device.
        batch_size: images per batch. The last batch is shorter; in a shuffled epoch, a single remaining image joins
            the previous batch, because batch normalisation cannot train on one image.
        mean: per channel [C], for pixels from 0 to 1.
        std: per channel [C], like `mean`.
        order: of the images, int64 [N], from `shuffled_order` or `balanced_order`; None keeps the split's.
        only: numbers of the batches to yield, from 0, in this order; all if None.
        augment: augmentations, applied in order.
        mix: mixes images and labels at last.
        augment_generator: the CPU generator that both draw from.
        memory_format: of the images in memory.

    Raises:
        ValueError: there is no generator to draw from, `order` has another length, or there is no such batch.
    """
    if augment_generator is None:
        if augment or mix:
            raise ValueError("augment needs an augment_generator")
        augment_generator = torch.Generator()  # nothing draws from it
    if order is not None and len(order) != len(split):
        raise ValueError(f"order must have one place for each of {len(split)} images, but has {len(order)}")
    # once: each operation is a kernel launch on a GPU
    affine = _affine(mean, std, split.shape[2], memory_format)
    bounds = _chosen(list(_bounds(len(split), batch_size, order is not None)), only)
    for images, labels in split.batches(bounds, order):
        for step in augment:
            images = step(images, augment_generator)
        images = _apply(images, affine, memory_format)
        if mix is not None:
            images, labels = mix(images, labels, augment_generator)
        yield images, labels
        del images, labels  # freed before the next ones are made


def shuffled_order(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Return a random order of `count` images, int64 [N] on `device`, drawn from a CPU generator.

    It is copied once per epoch: a copy at each step would make the host wait for the device.
    """
    return torch.randperm(count, generator=generator).to(device)


def balanced_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return as many images as there are, drawn with replacement: each class equally likely, then each of its images.

    Classes without images do not count. The probabilities are those of `torch.utils.data.WeightedRandomSampler` with
    the inverse number of images of each class as weights.

    Args:
        labels: int64 [N], on any device; they are copied once per epoch.
        generator: a CPU generator.

    Returns:
        int64 [N] on the device of the labels.
    """
    here = labels.cpu()
    counts = torch.bincount(here)
    by_class = here.argsort(stable=True)  # all images of class 0, then of class 1 ...
    starts = counts.cumsum(0) - counts
    present = counts.nonzero().flatten()
    drawn = present[torch.randint(len(present), (len(here),), generator=generator)]  # a class for each place
    # in double precision, so that large classes are drawn evenly
    within = torch.rand(len(here), generator=generator, dtype=torch.float64) * counts[drawn]
    return by_class[starts[drawn] + within.long()].to(labels.device)


def batch_sizes(images: int, batch_size: int, *, shuffled: bool = True) -> list[int]:
    """Return how many images each batch has that `epoch_batches` makes of this many."""
    return [stop - start for start, stop in _bounds(images, batch_size, shuffled)]


def normalise(
    images: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format = torch.channels_last
) -> Tensor:
    """Return uint8 images [B, C, H, W] as float32 `(images / 255 - mean) / std`.

    Args:
        images: pixels from 0 to 255.
        mean: per channel [C], for pixels from 0 to 1; on the device of the images.
        std: per channel [C], like `mean`.
        memory_format: of the result.
    """
    return _apply(images, _affine(mean, std, images.shape[3], memory_format), memory_format)


def _affine(
    mean: Tensor, std: Tensor, width: int, memory_format: torch.memory_format
) -> tuple[Tensor, Tensor]:
    """Return scale and shift for raw pixels, in the form that `_apply` needs for this memory format."""
    scale, shift = 1 / (255 * std), -mean / std  # [C]
    if memory_format == torch.channels_last:
        return scale.repeat(width), shift.repeat(width)  # [W * C]
    return scale.view(-1, 1, 1), shift.view(-1, 1, 1)


def _apply(images: Tensor, affine: tuple[Tensor, Tensor], memory_format: torch.memory_format) -> Tensor:
    result = images.to(torch.float32, memory_format=memory_format)  # a new tensor: changed in place below
    scale, shift = affine
    if memory_format == torch.channels_last:
        # Whole rows of pixels [B, H, W * C]: a loop over three channels would be six times as slow on a CPU.
        result.permute(0, 2, 3, 1).flatten(2).mul_(scale).add_(shift)  # views only
    else:
        result.mul_(scale).add_(shift)
    return result


def _chosen(bounds: list[tuple[int, int]], only: Sequence[int] | None) -> list[tuple[int, int]]:
    if only is None:
        return bounds
    wrong = [number for number in only if not 0 <= number < len(bounds)]
    if wrong:
        raise ValueError(f"batches are numbered 0..{len(bounds) - 1}, but `only` contains {wrong}")
    return [bounds[number] for number in only]


def _bounds(images: int, batch_size: int, shuffled: bool) -> Iterator[tuple[int, int]]:
    start = 0
    while start < images:
        stop = min(start + batch_size, images)
        if shuffled and batch_size > 1 and images - stop == 1:
            stop = images
        yield start, stop
        start = stop
