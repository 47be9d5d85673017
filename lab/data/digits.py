"""The handwritten digits that come with scikit-learn: 1,797 images of 8x8 pixels, no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, make_split

__all__ = ["DIGITS"]

_CLASSES = tuple("0123456789")
_IMAGES = 1_797


class _Digits:
    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        return DataInfo((1, 8, 8), _CLASSES, _IMAGES)

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        from sklearn.datasets import load_digits  # takes half a second, which planning must not wait for

        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # the grey values in the file are 0..16
        split = make_split(images, bunch.target, len(_CLASSES), "digits")
        return RawData(split, None, _CLASSES, "scikit-learn")


DIGITS = _Digits()
