"""Datasets as uint8 tensors on the device: sources, splits, augmentation, batches."""

from lab.data.augment import Augmentation, build_augmentations
from lab.data.base import DataInfo, Dataset, RawData, Source, Split, make_split
from lab.data.batches import count_batches, epoch_batches, normalise, shuffled_order
from lab.data.load import (
    check_data,
    clear_cache,
    data_notes,
    data_root,
    describe,
    identified,
    load_data,
    settled,
)

__all__ = [
    "Augmentation",
    "DataInfo",
    "Dataset",
    "RawData",
    "Source",
    "Split",
    "build_augmentations",
    "check_data",
    "clear_cache",
    "count_batches",
    "data_notes",
    "data_root",
    "describe",
    "epoch_batches",
    "identified",
    "load_data",
    "make_split",
    "normalise",
    "settled",
    "shuffled_order",
]
