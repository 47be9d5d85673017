"""Lists of labelled images that are not decoded yet: what each source of files makes of its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from lab.data.encoded import Encoded
from lab.errors import DataError, printable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Listing", "unreadable"]

_SHOWN = 5


@dataclass(frozen=True)
class Listing:
    """Labelled images: first the training images, then val's, then test's.

    Attributes:
        dataset: the kind of dataset, for errors.
        classes: class names, indexed by label.
        images: where they are.
        labels: of each image.
        train: number of training images.
        val: number of validation images; the rest is for testing. A split that the source lacks has 0 images.
        groups: the group of each image, such as a patient, which must not be in two splits; empty for none.
    """

    dataset: str
    classes: tuple[str, ...]
    images: Encoded
    labels: tuple[int, ...]
    train: int
    val: int = 0
    groups: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The folder that contains the images."""
        return self.images.root

    def split(self, at: int) -> str:
        """Return the split of the image at index `at`: train, val or test."""
        return "train" if at < self.train else "val" if at < self.train + self.val else "test"

    def without(self, places: Collection[int]) -> Listing:
        """Return the listing without the images at these indices.

        Raises:
            DataError: a class has no images left to train on.
        """
        kept = [at for at in range(len(self.labels)) if at not in places]
        counts = Counter(map(self.split, kept))
        left = {self.labels[at] for at in kept if at < self.train}
        empty = [name for label, name in enumerate(self.classes) if label not in left]
        if empty:
            raise DataError(
                f"{self.dataset}: {printable(str(self.root))} has no readable images of"
                f" {', '.join(map(printable, empty[:_SHOWN]))} to train on"
            )
        return replace(
            self,
            images=self.images.only(kept),
            labels=tuple(self.labels[at] for at in kept),
            train=counts["train"],
            val=counts["val"],
            groups=tuple(self.groups[at] for at in kept) if self.groups else (),
        )


def unreadable(dataset: str, root: Path, faults: Mapping[str, str], images: int) -> str:
    """Return the message about `faults`, by the name of an image, among `images` images; it lists the first few."""
    lines = [f"  {printable(name)}: {printable(fault)}" for name, fault in islice(faults.items(), _SHOWN)]
    more = [f"  … and {len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else []
    return "\n".join(
        [
            f"{dataset}: {len(faults):,} of {images:,} files in {printable(str(root))} cannot be read as images:",
            *lines,
            *more,
            "Repair or remove them, or leave them out with --skip-unreadable (`skip_unreadable: true`)",
        ]
    )
