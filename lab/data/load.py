"""From a config to its dataset."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lab import data, registry
from lab.config import TrialConfig
from lab.data.augment.building import augmentation_faults
from lab.data.base import DataInfo, Dataset, RawData, Source
from lab.data.division import divide, own_val_and_folds
from lab.data.inputs import inputs_note, takes_over, weights_inputs, weights_scale, with_weights_size
from lab.data.own import as_source
from lab.data.statistics import Measured, measure
from lab.data.subset import class_faults, sample_faults, select_classes
from lab.errors import ConfigError, DataError, Fault, OtherDataError

__all__ = [
    "check_data",
    "clear_cache",
    "data_notes",
    "data_root",
    "data_settings",
    "describe",
    "identified",
    "identifier",
    "load_data",
    "settled",
]

_CPU = torch.device("cpu")
_KEPT = 2  # a worker trains many trials on one dataset; a sweep may alternate between two
_cache: OrderedDict[tuple[object, ...], Dataset] = OrderedDict()
_lock = threading.Lock()


def data_root(config: TrialConfig) -> Path:
    """Return the absolute data folder: `config.data_dir`, else $LAB_DATA_DIR, else ./data.

    Raises:
        DataError: the name is not valid for a folder, or access is denied.
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

    Datasets of files read from disk: names, sizes and headers of their files. A plug-in's is called.

    Raises:
        ConfigError: the dataset lacks a class or has too few samples, or its images are too small for an
            augmentation.
        DataError: the image folder is missing, or has no usable class folders or files that cannot be read.
    """
    config = with_weights_size(config)
    info = _source(config).describe(config, data_root(config))
    own_val = config.folds is not None and info.has_val
    faults = [
        *([Fault(own_val_and_folds(config), "folds")] if own_val else []),
        *class_faults(config.classes, info.classes),
        *sample_faults(config, info),
        *augmentation_faults(config, info.shape),
    ]
    if faults:
        raise ConfigError(faults)
    return replace(info, classes=config.classes or info.classes)


def data_notes(config: TrialConfig) -> tuple[str, ...]:
    """Return what users should know about how the config's data is read, one line per fact; empty for most datasets.

    For an image folder: its splits with the number of images per class, what is left out and why, and what looks
    wrong.

    Raises:
        DataError: as `describe`.
    """
    config = with_weights_size(config)
    notes = getattr(_source(config), "notes", None)
    found = notes(config, data_root(config)) if notes else ()
    return (*found, *inputs_note(config, describe(config).shape)) if takes_over(config) else found


def settled(config: TrialConfig) -> TrialConfig:
    """Return `config` with the `image_size` of its weights, or of a folder's images if it has none.

    Raises:
        ConfigError: as `describe`.
        DataError: as `describe`, or the images have different sizes.
    """
    if config.image_size is not None or "image_size" not in registry.datasets[config.dataset].options:
        return config
    sized = with_weights_size(config)
    if sized.image_size is not None:
        return sized
    _, height, width = describe(config).shape
    return config.model_copy(update={"image_size": width}) if height == width else config


def data_settings(config: TrialConfig) -> tuple[object, ...]:
    """Return the values that decide what is read from the data folder; how it is split comes later."""
    settings = registry.datasets[config.dataset].arguments(config)
    return config.dataset, config.classes, *settings.values()


def identified(config: TrialConfig) -> TrialConfig:
    """Return `config` as `settled`, with the digest of its files in `data_dir` if it trains on those.

    Raises:
        ConfigError: as `describe`.
        DataError: the files are missing, cannot be read, or (OtherDataError) differ from what the config says.
    """
    config = settled(config)
    _check_files(config)
    if config.data_digest or not config.is_of_files or not hasattr(_source(config), "digest"):
        return config  # a plug-in's source may not have one
    return config.model_copy(update={"data_digest": _digest(config)})


def identifier() -> Callable[[TrialConfig], TrialConfig]:
    """Return a function like `identified` for many configs, which looks at each folder once."""
    digests: dict[tuple[object, ...], str | None] = {}

    def identify(config: TrialConfig) -> TrialConfig:
        key = data_settings(config)
        if key not in digests:
            digests[key] = identified(config).data_digest
        return config.model_copy(update={"data_digest": digests[key]})

    return identify


def check_data(config: TrialConfig) -> None:
    """Check that the files match the config's `data_digest`; data that is already loaded is not checked again.

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
        source = _source(config)
        where, or_else = getattr(source, "where", f"in {data_root(config)}"), getattr(source, "or_else", "")
        raise OtherDataError(
            f"The images {where} are not those of this trial: their digest is {found}, not"
            f" {config.data_digest}. Either they have changed since the trial was planned: sweep the same grid again to"
            f" train on the current ones. Or this machine has different images: copy the original ones here{or_else}"
        )


def _digest(config: TrialConfig) -> str:
    return _source(config).digest(config, data_root(config))


def load_data(config: TrialConfig, *, device: torch.device = _CPU, download: bool = False) -> Dataset:
    """Return the config's dataset, split and on `device`.

    This process keeps the latest two: loading one of them again is free, and does not notice changes of its files.
    `clear_cache` forgets them.

    Args:
        config: the settings dataset, those that the dataset takes, classes, val_fraction, test_fraction, folds, fold,
            train_samples, split_seed and input_scale matter.
        device: where the tensors go.
        download: whether a missing dataset may be downloaded.

    Raises:
        ConfigError: as `describe`.
        DataError: the data is missing, corrupt, too small for the splits or the sample, or (OtherDataError) does
            not match the config's `data_digest`.
    """
    config = settled(config)  # otherwise one dataset could be kept twice
    config = config.model_copy(update={"device": str(device)})  # whose memory counts, too
    root = data_root(config)
    key = (
        *(root, *data_settings(config)),
        *(config.val_fraction, config.test_fraction, config.folds, config.fold, config.split_seed),
        *(config.train_samples, config.input_scale, str(device)),
        weights_inputs(config) if config.input_scale == "weights" else None,
        config.code_digest,
    )
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
        describe(config)  # finds impossible settings before anything is decoded
        _check_files(config)
        while len(_cache) >= _KEPT:  # before loading: the memory may be needed
            _cache.popitem(last=False)
        raw = _source(config).load(config, root, download=download)
        dataset = _cache[key] = _assemble(config, raw, device)
        return dataset


def clear_cache() -> None:
    """Forget the datasets, image folders, tables and plug-ins' data that this process remembers."""
    data.forget_own()
    data.forget_surveys()
    data.forget_tables()
    data.forget_rows()
    with _lock:
        _cache.clear()


def _source(config: TrialConfig) -> Source:
    return as_source(registry.datasets[config.dataset])


def _assemble(config: TrialConfig, raw: RawData, device: torch.device) -> Dataset:
    raw = select_classes(raw, config.classes)
    train, val, test, notes = divide(config, raw)
    measured = measure([("train", train), ("val", val), ("test", test)])
    mean, std = _scale(config, measured)
    return Dataset(
        name=config.dataset,
        classes=raw.classes,
        train=train.to(device),
        val=None if val is None else val.to(device),
        test=test.to(device),
        mean=mean.to(device),
        std=std.to(device),
        digest=measured.digest,
        source=raw.source,
        notes=(*raw.notes, *notes, *inputs_note(config, train.shape)),
        white=raw.white,
    )


def _scale(config: TrialConfig, measured: Measured) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation, [C], with which `normalise` scales images as `input_scale` asks."""
    mean, std = measured.mean, measured.std
    if config.input_scale == "weights":
        return weights_scale(config, len(mean))
    if config.input_scale == "standard":
        return mean, std
    return torch.zeros_like(mean), torch.full_like(std, 1.0 if config.input_scale == "unit" else 1 / 255)
