"""The handwritten digits that come with scikit-learn: 1,797 images of 8x8 pixels, no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, make_split
from lab.data.cache import mapped

__all__ = ["DIGITS"]

_CLASSES = tuple("0123456789")
_IMAGES = 1_797
_FORMAT = 1  # of the cached array; raise it when the images change


class _Digits:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        return DataInfo((1, 8, 8), _CLASSES, _IMAGES)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        key = f"digits-{_FORMAT}"
        columns = mapped("images", key, _read)  # of each image, its 64 pixels and its label
        images, labels = columns[:, :-1].reshape(-1, 8, 8), columns[:, -1]
        return RawData(
            make_split(images, labels, len(_CLASSES), "digits", key), None, _CLASSES, "scikit-learn"
        )


def _read() -> NDArray[np.uint8]:
    from sklearn.datasets import load_digits  # takes half a second

    bunch = load_digits()
    pixels = np.rint(bunch.data * (255 / 16))  # the grey values in the file are 0..16
    return np.column_stack((pixels, bunch.target)).astype(np.uint8)


DIGITS = _Digits()
