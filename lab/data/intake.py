"""How a picture becomes the input of a trained model, and what the model's outputs are called.

It is kept with every model as `intake.json`, so that pictures can be classified without the data that it was trained
on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lab.config import TrialConfig
from lab.data.base import Dataset
from lab.data.decode import decode
from lab.data.levels import Kind
from lab.data.probe import probe_content
from lab.errors import DataError

__all__ = ["INTAKE", "Intake"]

#: Name of the file that it is kept in.
INTAKE: Final = "intake.json"

_FORMAT: Final = 1  # raise it when an older lab could no longer read pictures in the same way


@dataclass(frozen=True)
class Intake:
    """What a model was given in training, as far as single pictures are concerned.

    Attributes:
        classes: class names, indexed by label.
        shape: of an image, [C, H, W].
        mean: per channel, for pixels from 0 to 1; see `Dataset.mean`.
        std: per channel, like `mean`.
        resize: how a picture that is no square becomes one; see `decode`.
        background: the colour behind transparent pixels, and beside padded pictures.
        white: the white level of each kind of image with more than 8 bits; see `white_levels`.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "squash"
    background: str = "white"
    white: Mapping[Kind, float] = field(default_factory=dict)

    @property
    def takes_pictures(self) -> bool:
        """Whether the model's images have as many channels as pictures in files have: one or three."""
        return self.shape[0] in (1, 3)

    @classmethod
    def of(cls, config: TrialConfig, dataset: Dataset) -> Self:
        """Return the intake of a model that is trained with `config` on `dataset`."""
        mean, std = (tuple(each.tolist()) for each in (dataset.mean, dataset.std))
        return cls(dataset.classes, dataset.shape, mean, std, config.resize, config.background, dataset.white)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` has written.

        Raises:
            DataError: it is damaged, or of a later version of lab; the message is to be read after the file's name.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values.pop("format") > _FORMAT:
                raise DataError("was written by a later version of lab; install that one")
            lists = {name: tuple(values[name]) for name in ("classes", "shape", "mean", "std")}
            white = {Kind(*kind): float(level) for kind, level in values["white"]}
            return cls(**{**values, **lists, "white": white})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"cannot be read ({type(error).__name__}: {error})") from None

    def to_json(self) -> str:
        """Return it as JSON; `from_json` reads it back without a loss."""
        white = [(astuple(kind), level) for kind, level in self.white.items()]
        return json.dumps({"format": _FORMAT, **vars(self), "white": white})

    def read(self, name: str, content: bytes) -> NDArray[np.uint8]:
        """Return a picture as the model was trained on such ones, [H, W, C], except for its scale.

        Only for a model that `takes_pictures`.

        Args:
            name: what errors call it.
            content: the bytes of its file.

        Raises:
            DataError: it is damaged, not an image, or has more pixels than Pillow considers safe.
        """
        channels, height, width = self.shape
        fault = probe_content(content, name).fault  # first: Pillow would run other programs for some formats
        if fault:
            raise DataError(f"{name}: {fault}")
        pixels = decode(
            name,
            (width, height),
            content=content,
            resize=self.resize,
            background=self.background,
            white=self.white,
        )
        return pixels if channels == 3 else np.asarray(Image.fromarray(pixels).convert("L"))[..., None]

    def scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and deviation, float32 [C], as `normalise` takes them."""
        return torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)
