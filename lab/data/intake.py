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
from lab.data.decode import decode, examine
from lab.data.levels import Kind, white_level
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
        full_scale: that of kinds that were not there in training, if the user has set one.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "squash"
    background: str = "white"
    white: Mapping[Kind, float] = field(default_factory=dict)
    full_scale: float | None = None

    @property
    def takes_pictures(self) -> bool:
        """Whether the model's images have as many channels as pictures in files have: one or three."""
        return self.shape[0] in (1, 3)

    @classmethod
    def of(cls, config: TrialConfig, dataset: Dataset) -> Self:
        """Return the intake of a model that is trained with `config` on `dataset`."""
        mean, std = (tuple(each.tolist()) for each in (dataset.mean, dataset.std))
        read = (config.resize, config.background, dataset.white, config.full_scale)
        return cls(dataset.classes, dataset.shape, mean, std, *read)

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
        values = {"format": _FORMAT, **vars(self), "white": white}
        if self.full_scale is None:  # earlier versions do not know it
            del values["full_scale"]
        return json.dumps(values)

    def read(self, name: str, content: bytes) -> NDArray[np.uint8]:
        """Return a picture as the model was trained on such ones, [H, W, C], except for its scale.

        Only for a model that `takes_pictures`.

        Args:
            name: what errors call it.
            content: the bytes of its file.

        Raises:
            DataError: it is damaged, not an image, or has more pixels than Pillow considers safe; or it has more than
                8 bits in a way that no image had in training, and does not tell which value is white.
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
            white=self._white(name, content),
        )
        return pixels if channels == 3 else np.asarray(Image.fromarray(pixels).convert("L"))[..., None]

    def _white(self, name: str, content: bytes) -> Mapping[Kind, float]:
        """Return the white levels, with that of a picture of a kind that was not there in training."""
        found, _ = examine(name, content)
        if found is None or found[0] in self.white:
            return self.white
        level = white_level(*found, self.full_scale)
        if level is None:
            kind, seen = found
            limit = (
                "" if self.full_scale is None else f", and the full_scale of training is {self.full_scale:g}"
            )
            raise DataError(
                f"{name}: cannot tell which value is white: no image was {kind.name} like this in training, its pixels "
                f"range from {seen.low:g} to {seen.high:g}{limit}. Convert it to 8 bits"
            )
        return {found[0]: level}

    def scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and deviation, float32 [C], as `normalise` takes them."""
        return torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)
