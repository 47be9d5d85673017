"""From a config to its dataset."""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lab import registry
from lab.config import TrialConfig
from lab.data.augment import augmentation_faults
from lab.data.base import DataInfo, Dataset, RawData, Source
from lab.data.split import hold_out
from lab.data.statistics import channel_statistics, digest
from lab.data.subset import class_faults, draw_sample, sample_faults, select_classes
from lab.errors import ConfigError, DataError, OtherDataError

__all__ = [
    "check_data",
    "clear_cache",
    "data_notes",
    "data_root",
    "describe",
    "identified",
    "load_data",
    "settled",
]

_CPU = torch.device("cpu")
_KEPT = 2  # a worker trains many trials on one dataset; a second serves a sweep that alternates
_cache: OrderedDict[tuple[object, ...], Dataset] = OrderedDict()
_lock = threading.Lock()


def data_root(config: TrialConfig) -> Path:
    """Return the absolute data folder: `config.data_dir`, else $LAB_DATA_DIR, else ./data.

    Raises:
        DataError: no folder can have such a name, or it may not be looked at.
    """
    folder = config.data_dir or os.environ.get("LAB_DATA_DIR") or "data"
    try:
        root = Path(folder).expanduser().absolute()
        root.exists()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"The data folder {folder[:200]} cannot be used: {reason}") from None
    return root


def describe(config: TrialConfig) -> DataInfo:
    """Return image shape and classes of the config's dataset without loading it.

    Only image_folder looks at the disk: at names, sizes and the heads of its files.

    Raises:
        ConfigError: the dataset cannot give the classes or the number of samples asked for, or its images are
            too small for an augmentation.
        DataError: the image folder is missing, has no usable class folders, or files that cannot be read.
    """
    info = _source(config).describe(config, data_root(config))
    faults = [
        *class_faults(config.classes, info.classes),
        *sample_faults(config, info),
        *augmentation_faults(config, info.shape),
    ]
    if faults:
        raise ConfigError(faults)
    return replace(info, classes=config.classes or info.classes)


def data_notes(config: TrialConfig) -> tuple[str, ...]:
    """Return what a person should know of how the config's data is read, a line each; nothing of most datasets.

    Of an image folder: its splits and how many images of each class they have, what is left out and why, and what
    looks wrong.

    Raises:
        DataError: as `describe`.
    """
    notes = getattr(_source(config), "notes", None)
    return notes(config, data_root(config)) if notes else ()


def settled(config: TrialConfig) -> TrialConfig:
    """Return `config` with what only its data tell: the `image_size` of a folder's images where none is given.

    Raises:
        ConfigError: as `describe`.
        DataError: as `describe`, or the images are of several sizes.
    """
    if config.image_size is not None or "image_size" not in registry.datasets[config.dataset].options:
        return config
    return config.model_copy(update={"image_size": describe(config).shape[-1]})


def identified(config: TrialConfig) -> TrialConfig:
    """Return `config` as `settled`, with the digest of the files that its `data_dir` holds, where these are its data.

    Raises:
        ConfigError: as `describe`.
        DataError: the files are missing or cannot be read, or (OtherDataError) are others than the config says.
    """
    config = settled(config)
    _check_files(config)
    if config.data_digest or not config.is_of_files or not hasattr(_source(config), "digest"):
        return config  # a plug-in's source may have none
    return config.model_copy(update={"data_digest": _digest(config)})


def check_data(config: TrialConfig) -> None:
    """Check that the files are here which the config's `data_digest` tells of; what is loaded needs no other look.

    Raises:
        DataError: as `identified`.
    """
    with _lock:
        loaded = any(config.data_digest in key for key in _cache)
    if not loaded:
        _check_files(config)


def _check_files(config: TrialConfig) -> None:
    if config.data_digest is None:
        return
    found = _digest(config)
    if found != config.data_digest:
        raise OtherDataError(
            f"The images in {data_root(config)} are not those of this trial: they are {found}, not"
            f" {config.data_digest}. Either they have changed since it was planned, and the same grid swept again"
            " trains on what is there now; or this machine's folder holds others, and needs a copy of those"
        )


def _digest(config: TrialConfig) -> str:
    return _source(config).digest(config, data_root(config))


def load_data(config: TrialConfig, *, device: torch.device = _CPU, download: bool = False) -> Dataset:
    """Return the config's dataset, split and on `device`.

    The latest two are kept by this process: loading one of them again costs nothing, and does not notice
    that its files have changed since it was loaded. `clear_cache` forgets them.

    Args:
        config: the fields dataset, data_dir, data_digest, image_size, skip_unreadable, background, full_scale,
            classes, val_fraction, test_fraction, train_samples, split_seed and input_scale count.
        device: where the tensors shall be.
        download: whether a missing dataset may be fetched from the network.

    Raises:
        ConfigError: as `describe`.
        DataError: missing, corrupt, too small for the splits or the sample, or (OtherDataError) not what the
            config's `data_digest` says.
    """
    config = settled(config)  # or one dataset would be kept twice
    root = data_root(config)
    key = (
        *(config.dataset, root, config.data_digest, config.image_size, config.classes),
        *(config.background, config.full_scale),
        *(config.val_fraction, config.test_fraction, config.train_samples, config.split_seed),
        *(config.input_scale, config.skip_unreadable, str(device)),
    )
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
        describe(config)  # finds what cannot be before anything is decoded
        _check_files(config)
        while len(_cache) >= _KEPT:  # before loading: the memory may be needed
            _cache.popitem(last=False)
        raw = _source(config).load(config, root, download=download)
        dataset = _cache[key] = _assemble(config, raw, device)
        return dataset


def clear_cache() -> None:
    """Forget the datasets that this process keeps, and what it knows of folders."""
    from lab.data.listing import forget_surveys  # Pillow, which most datasets do without

    forget_surveys()
    with _lock:
        _cache.clear()


def _source(config: TrialConfig) -> Source:
    source: Source = registry.datasets[config.dataset].load()
    return source


def _assemble(config: TrialConfig, raw: RawData, device: torch.device) -> Dataset:
    raw = select_classes(raw, config.classes)
    train, val, test = raw.train, raw.val, raw.test
    cut = functools.partial(hold_out, seed=config.split_seed, classes=raw.classes)
    if test is None:
        train, test = cut(train, fraction=config.test_fraction, field="test_fraction")
    if val is None and config.val_fraction > 0:
        train, val = cut(train, fraction=config.val_fraction, field="val_fraction")
    if config.train_samples is not None:
        train = draw_sample(train, samples=config.train_samples, seed=config.split_seed, classes=raw.classes)
    mean, std = _scale(config, train.images)
    return Dataset(
        name=config.dataset,
        classes=raw.classes,
        train=train.to(device),
        val=None if val is None else val.to(device),
        test=test.to(device),
        mean=mean.to(device),
        std=std.to(device),
        digest=digest([("train", train), ("val", val), ("test", test)]),
        source=raw.source,
        notes=raw.notes,
    )


def _scale(config: TrialConfig, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation [C] that make `normalise` give what `input_scale` asks for."""
    mean, std = channel_statistics(images)
    if config.input_scale == "standard":
        return mean, std
    return torch.zeros_like(mean), torch.full_like(std, 1.0 if config.input_scale == "unit" else 1 / 255)
