"""What lab asks of a library of nets with pretrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from lab.config import TrialConfig
from lab.data.inputs import Inputs

__all__ = ["Library", "Pretrained"]


@dataclass(frozen=True)
class Pretrained:
    """Weights for a model.

    Attributes:
        tensors: a state dict.
        new_head: whether they leave out the head, because their classes are others.
        digest: of the file that they are from, as `digest_of` gives it.
    """

    tensors: Mapping[str, Tensor]
    new_head: bool
    digest: str = ""


class Library(Protocol):
    """A library of nets with pretrained weights; the `library` of a family in `lab.registry.architectures`."""

    def names(self) -> frozenset[str] | None:
        """Return the names of all its nets; None where it is not installed."""

    def inputs(self, config: TrialConfig) -> Inputs:
        """Return the input that the weights of the config's net were trained on.

        Raises:
            LabError: the library is not installed, or has no such weights.
        """

    def source(self, config: TrialConfig) -> str:
        """Return the address of the weights that the library publishes under the config's name for them.

        Raises:
            ConfigError: it publishes none under this name.
        """

    def published(self, config: TrialConfig, *, download: bool) -> Path | None:
        """Return the local copy of these weights, None if they are not on this machine.

        Args:
            config: names the net and the weights.
            download: whether they may be downloaded.

        Raises:
            MissingDataError: they cannot be downloaded.
        """

    def fit(
        self, config: TrialConfig, weights: Mapping[str, Tensor], shape: tuple[int, int, int], classes: int
    ) -> Pretrained:
        """Adapt weights to the config's net for images of `shape` and this many classes.

        Args:
            config: names the net.
            weights: the state dict in the file.
            shape: channels, height and width of an image.
            classes: number of classes.

        Raises:
            ValueError: they are those of another net; names the first tensor that differs.
        """
