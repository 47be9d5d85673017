"""MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN, read and verified by torchvision."""

from __future__ import annotations

import functools
import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.config import TrialConfig
from lab.data.base import DataInfo, MemorySplit, RawData, Split, make_split
from lab.data.cache import mapped
from lab.data.contents import content_digests
from lab.errors import DataError, MissingDataError
from lab.torchvision_import import import_torchvision

__all__ = ["CIFAR10", "CIFAR100", "FASHION_MNIST", "MNIST", "SVHN"]

_FORMAT = 1  # of the cached arrays; raise it when they change
_IDX_IMAGES = b"\x00\x00\x08\x03"  # unsigned bytes in 3 dimensions
_IDX_LABELS = b"\x00\x00\x08\x01"  # unsigned bytes in 1 dimension


@dataclass(frozen=True)
class _Torchvision:
    """One dataset class of torchvision.

    Attributes:
        name: as in the config.
        info: what `describe` returns.
        dataset: name of torchvision's class.
        folder: relative to the data folder.
        files: names of the files in that folder.
        parts: keyword arguments of the class for the train and the test split.
        arrays: returns images [N, H, W(, C)] and labels of an instance.
        check: returns what is wrong with a file that torchvision itself would read unverified, or "".
    """

    name: str
    info: DataInfo
    dataset: str
    folder: str
    files: tuple[str, ...]
    parts: tuple[dict[str, Any], dict[str, Any]]
    arrays: Callable[[Any], tuple[Any, Any]]
    check: Callable[[Path], str] = lambda file: ""

    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        return self.info

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        if not download:
            self._require(config, root)
        self._verify(root)
        if download:  # it also replaces damaged files, so what they contain is known only then
            for part in self.parts:
                self._read(root, part, download=True)
        train, test = (self._split(root, part) for part in self.parts)
        return RawData(train, test, self.info.classes, str(root / self.folder))

    def _split(self, root: Path, part: dict[str, Any]) -> Split:
        """Return a split from the cache, which spares the second that torchvision takes to import."""
        read = functools.cache(lambda: self._read(root, part, download=False))
        key = self._key(root, part)
        labels = mapped("labels", key, lambda: read().labels.numpy().astype(np.uint8))
        images = mapped("images", key, lambda: read().pixels.permute(0, 2, 3, 1).numpy())
        return make_split(images, labels, len(self.info.classes), self.name, key)

    def _key(self, root: Path, part: dict[str, Any]) -> str:
        """Return what identifies a split: every byte of the files."""
        try:
            contents = content_digests(root / self.folder, self.files)
        except OSError as error:
            raise DataError(f"{self.name} in {root / self.folder} cannot be read: {error}") from error
        return hashlib.sha256(f"{_FORMAT} {self.name} {part} {contents}".encode()).hexdigest()

    def _read(self, root: Path, part: dict[str, Any], download: bool) -> MemorySplit:
        dataset = getattr(import_torchvision("torchvision.datasets"), self.dataset)
        try:
            opened = dataset(root, download=download, **part)
            images, labels = self.arrays(opened)
        except (RuntimeError, OSError, EOFError, zlib.error) as error:  # URLError is an OSError
            raise self._explain(root, dataset, download, error) from error
        split = make_split(np.asarray(images), labels, len(self.info.classes), self.name)
        if split.shape != self.info.shape:
            raise DataError(
                f"{self.name}: images must be {list(self.info.shape)}, but are {list(split.shape)}"
            )
        return split

    def _require(self, config: TrialConfig, root: Path) -> None:
        missing = [file for file in self.files if not (root / self.folder / file).is_file()]
        if missing:
            where = "" if config.data_dir is None else f" --data-dir {config.data_dir}"
            raise MissingDataError(
                f"{self.name} is missing: {root / self.folder} does not contain {', '.join(missing)}."
                f" Download it with: lab train --dataset {self.name}{where} --download;"
                " or set its location with --data-dir or LAB_DATA_DIR"
            )

    def _verify(self, root: Path) -> None:
        for file in (root / self.folder / name for name in self.files):
            fault = self.check(file) if file.is_file() else ""
            if fault:
                raise DataError(_corrupt(file, fault))

    def _explain(self, root: Path, dataset: Any, download: bool, error: Exception) -> DataError:
        damaged = _damaged(root, dataset)
        if damaged:
            return DataError(_corrupt(damaged[0], "its checksum differs from the published one"))
        if download:
            return DataError(f"{self.name} could not be downloaded into {root}: {error}")
        return DataError(f"{self.name} in {root / self.folder} cannot be read: {error}")


def _corrupt(file: Path, fault: str) -> str:
    return f"{file} is corrupt: {fault}. Delete it and download it again with --download"


def _damaged(root: Path, dataset: Any) -> list[Path]:
    """Return the files that exist but do not have the checksum that torchvision knows."""
    known = [*getattr(dataset, "train_list", ()), *getattr(dataset, "test_list", ())]
    sums = [(root / dataset.base_folder / file, md5) for file, md5 in known]
    sums += [(root / file, md5) for _, file, md5 in getattr(dataset, "split_list", {}).values()]
    check = import_torchvision("torchvision.datasets.utils").check_integrity
    return [file for file, md5 in sums if file.is_file() and not check(file, md5)]


def _check_idx(file: Path) -> str:
    """Return what is wrong with an IDX file: torchvision has no checksums for MNIST's unpacked files."""
    with file.open("rb") as stream:
        header = stream.read(16)
    magic = _IDX_IMAGES if "images" in file.name else _IDX_LABELS
    end = 4 + 4 * magic[3]  # end of the header: one size per dimension
    if header[:4] != magic or len(header) < end:
        return f"it must begin with {magic.hex(' ')} and its sizes, but it begins with {header.hex(' ')}"
    length = end + math.prod(struct.unpack(f">{magic[3]}I", header[4:end]))
    found = file.stat().st_size
    return "" if found == length else f"its header promises {length} bytes, but it has {found}"


def _mnist_arrays(dataset: Any) -> tuple[Any, Any]:
    return dataset.data, dataset.targets  # [N, H, W]


def _cifar_arrays(dataset: Any) -> tuple[Any, Any]:
    return dataset.data, dataset.targets  # [N, H, W, C]


def _svhn_arrays(dataset: Any) -> tuple[Any, Any]:
    return dataset.data.transpose(0, 2, 3, 1), dataset.labels  # torchvision gives [N, C, H, W]


def _mnist(name: str, dataset: str, classes: Sequence[str]) -> _Torchvision:
    return _Torchvision(
        name=name,
        info=DataInfo((1, 28, 28), tuple(classes), 60_000),
        dataset=dataset,
        folder=f"{dataset}/raw",
        files=tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in _IDX_KINDS),
        parts=({"train": True}, {"train": False}),
        arrays=_mnist_arrays,
        check=_check_idx,
    )


def _cifar(name: str, dataset: str, folder: str, files: str, classes: str) -> _Torchvision:
    return _Torchvision(
        name=name,
        info=DataInfo((3, 32, 32), tuple(classes.split()), 50_000),
        dataset=dataset,
        folder=folder,
        files=tuple(files.split()),
        parts=({"train": True}, {"train": False}),
        arrays=_cifar_arrays,
    )


_IDX_KINDS = ("images-idx3", "labels-idx1")
_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

MNIST = _mnist("mnist", "MNIST", "0123456789")
FASHION_MNIST = _mnist(
    "fashion_mnist",
    "FashionMNIST",
    (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)
CIFAR10 = _cifar(
    "cifar10",
    "CIFAR10",
    "cifar-10-batches-py",
    "data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch batches.meta",
    "airplane automobile bird cat deer dog frog horse ship truck",
)
CIFAR100 = _cifar("cifar100", "CIFAR100", "cifar-100-python", "train test meta", _CIFAR100_CLASSES)
SVHN = _Torchvision(
    name="svhn",
    info=DataInfo((3, 32, 32), tuple("0123456789"), 73_257),
    dataset="SVHN",
    folder="",
    files=("train_32x32.mat", "test_32x32.mat"),
    parts=({"split": "train"}, {"split": "test"}),
    arrays=_svhn_arrays,
)
