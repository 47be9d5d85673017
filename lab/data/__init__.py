"""Datasets as uint8 tensors on the device: sources, splits, augmentation, batches."""

from lab.data.augment import Augmentation, build_augmentations
from lab.data.base import DataInfo, Dataset, RawData, Source, Split, make_split
from lab.data.batches import count_batches, epoch_batches, normalise, shuffled_order
from lab.data.load import clear_cache, data_notes, data_root, describe, load_data, settled

__all__ = [
    "Augmentation",
    "DataInfo",
    "Dataset",
    "RawData",
    "Source",
    "Split",
    "build_augmentations",
    "clear_cache",
    "count_batches",
    "data_notes",
    "data_root",
    "describe",
    "epoch_batches",
    "load_data",
    "make_split",
    "normalise",
    "settled",
    "shuffled_order",
]
