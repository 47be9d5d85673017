"""Predictions for picture files, a batch at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lab.data import by_chunks, read_tree
from lab.errors import DataError, TrackingError
from lab.trained.model import TrainedModel

__all__ = ["Prediction", "find_pictures", "predict"]

_CHUNK = 16  # pictures that a thread decodes at once


@dataclass(frozen=True)
class Prediction:
    """What a model says about a picture.

    Attributes:
        picture: its path, as it was given.
        classes: the names of the most likely classes with their probabilities, the most likely first.
        fault: why it cannot be read; empty if it can.
    """

    picture: str
    classes: tuple[tuple[str, float], ...] = ()
    fault: str = ""


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Return `paths`, with each folder replaced by the files in and below it, sorted by path.

    What systems leave behind in folders, and files that are no images by their names, are left out.

    Raises:
        DataError: a folder cannot be read, or has no such files.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        files = read_tree(path).deep
        if not files:
            raise DataError(f"There are no pictures in {path}")
        found += [path / file.path for file in files]
    return found


def predict(model: TrainedModel, pictures: Sequence[Path], top: int) -> Iterator[Prediction]:
    """Return what `model` says about each picture, in their order; they are read as they are asked for.

    Args:
        model: from `load_trained`.
        pictures: their files.
        top: how many classes to tell.

    Raises:
        DataError: the model takes other images than files have.
        TrackingError: the model returns no numbers.
    """
    if not model.intake.takes_pictures:
        channels = model.intake.shape[0]
        message = f"takes images of {channels} channels, but a picture has 1 or 3"
        raise DataError(f"The model of run {model.run_id} {message}")
    return _all_predicted(model, pictures, top)


def _all_predicted(model: TrainedModel, pictures: Sequence[Path], top: int) -> Iterator[Prediction]:
    def read(start: int, stop: int) -> list[tuple[Path, NDArray[np.uint8] | str]]:
        return [(picture, _read(model, picture)) for picture in pictures[start:stop]]

    chunks = by_chunks(len(pictures), read, "Predicting", size=_CHUNK)
    decoded = (each for chunk in chunks for each in chunk)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged files and large images: what cannot be read is told
        while batch := list(islice(decoded, model.batch_size)):
            yield from _predicted(model, batch, top)


def _read(model: TrainedModel, picture: Path) -> NDArray[np.uint8] | str:
    """Return a picture, [H, W, C], or why it cannot be read."""
    try:
        return model.intake.read(str(picture), picture.read_bytes())
    except DataError as error:
        return str(error).removeprefix(f"{picture}: ")
    except OSError as error:
        return error.strerror or str(error)


def _predicted(
    model: TrainedModel, batch: Sequence[tuple[Path, NDArray[np.uint8] | str]], top: int
) -> Iterator[Prediction]:
    images = [image for _, image in batch if not isinstance(image, str)]
    likeliest = iter(_likeliest(model, np.stack(images), top) if images else ())
    for picture, image in batch:
        if isinstance(image, str):
            yield Prediction(str(picture), fault=image)
        else:
            yield Prediction(str(picture), next(likeliest))


def _likeliest(
    model: TrainedModel, images: NDArray[np.uint8], top: int
) -> list[tuple[tuple[str, float], ...]]:
    """Return the most likely classes of each image of [B, H, W, C], with their probabilities."""
    probabilities = model.probabilities(torch.from_numpy(images).permute(0, 3, 1, 2))
    if not probabilities.isfinite().all():
        raise TrackingError(f"The model of run {model.run_id} returns no numbers: its training has diverged")
    values, labels = probabilities.topk(min(top, len(model.intake.classes)))  # [B, top] each
    names = model.intake.classes
    return [
        tuple((names[label], value) for label, value in zip(each, theirs, strict=True))
        for each, theirs in zip(labels.tolist(), values.tolist(), strict=True)
    ]
