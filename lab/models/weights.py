"""The pretrained weights that a config's net starts from: found, identified, checked and adapted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from lab import registry
from lab.config import TrialConfig, weights_file
from lab.errors import ConfigError, DataError, Fault, MissingDataError, OtherDataError
from lab.models.library import Library, Pretrained
from lab.models.reading import digest_of, read_weights

__all__ = ["check_weights", "fetch_all_weights", "fetch_weights", "pretrained_weights", "with_digest"]

_checked: set[tuple[object, ...]] = set()


def with_digest(config: TrialConfig) -> TrialConfig:
    """Return `config` with the digest of its file of weights, if it starts from one.

    Raises:
        ConfigError: the net's library publishes no weights of this name.
        DataError: the file is missing or cannot be read, or (OtherDataError) is not the one that the config says.
    """
    file = weights_file(config)
    if file is not None:
        return config.model_copy(update={"weights_digest": _digest(config, _path(file))})
    if config.pretrained or config.weights:
        _library(config).source(config)
    return config


def fetch_weights(config: TrialConfig, *, download: bool = False) -> Path | None:
    """Return the file of weights that `config` starts from, None if it starts from none.

    Args:
        config: names the net and the weights.
        download: whether weights that a library publishes may be downloaded.

    Raises:
        ConfigError: as `with_digest`.
        DataError: as `with_digest`, or (MissingDataError) the weights are not on this machine and may not be or cannot
            be downloaded.
    """
    if not (config.pretrained or config.weights):
        return None
    named = weights_file(config)
    if named is not None:
        file = _path(named)
        _digest(config, file)
        return file
    return _published(config, download)


def _published(config: TrialConfig, download: bool) -> Path:
    library, setting = _library(config), "pretrained" if config.pretrained else "weights"
    by_hand = f"get the file from {library.source(config)}, and set {setting} to its path"
    try:
        found = library.published(config, download=download)
    except MissingDataError as error:
        raise MissingDataError(f"{error}. Try again; or {by_hand}") from None
    if found is None:
        message = (
            f"The weights of {config.architecture} are not on this machine. Add --download; or {by_hand}"
        )
        raise MissingDataError(message)
    return found


def fetch_all_weights(configs: Iterable[TrialConfig], *, download: bool) -> None:
    """Check that the weights of all `configs` are on this machine; download those that may be.

    Raises:
        LabError: as `fetch_weights`.
    """
    fetched = {(config.architecture, config.pretrained, config.weights): config for config in configs}
    for config in fetched.values():
        fetch_weights(config, download=download)


def pretrained_weights(
    config: TrialConfig, shape: tuple[int, int, int], classes: int, *, download: bool = False
) -> Pretrained | None:
    """Return the weights that `config` starts from, adapted to its net; None if it starts from none.

    The state of torch's generators stays as it was.

    Args:
        config: names the net and the weights.
        shape: channels, height and width of an image.
        classes: number of classes.
        download: whether weights that a library publishes may be downloaded.

    Raises:
        ConfigError: as `with_digest`.
        DataError: as `fetch_weights`, or the file is damaged or of another net: names the first tensor that differs.
    """
    file = fetch_weights(config, download=download)
    if file is None:
        return None
    tensors = read_weights(file)
    with torch.random.fork_rng(devices=[]):
        try:
            return replace(_library(config).fit(config, tensors, shape, classes), digest=digest_of(file))
        except ValueError as error:
            raise DataError(f"The weights {file} are not those of {config.architecture}: {error}") from None


def check_weights(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> None:
    """Check that the file of weights that `config` starts from fits its net; each is read once in a process.

    Weights that a library publishes are not checked: they fit, and may still be downloaded.

    Raises:
        ConfigError: it does not; names the first tensor that differs, or says why the file cannot be used.
    """
    file = weights_file(config)
    key = (config.architecture, config.weights_digest, shape, classes)
    if file is None or key in _checked:
        return
    try:
        pretrained_weights(config, shape, classes)
    except DataError as error:
        raise ConfigError(Fault(str(error), "pretrained" if config.pretrained else "weights")) from None
    _checked.add(key)


def _library(config: TrialConfig) -> Library:
    library: Library = registry.architectures[config.architecture].load_library()
    return library


def _path(file: str) -> Path:
    return Path(os.path.expanduser(file)).absolute()  # noqa: PTH111  # leaves ~ without a home as it is


def _digest(config: TrialConfig, file: Path) -> str:
    """Return the digest of a file, which must be the one that the config names, if it does."""
    found = digest_of(file)
    if config.weights_digest not in (None, found):
        raise OtherDataError(
            f"The weights {file} are not those of this trial: their digest is {found}, not {config.weights_digest}."
            " Either they have changed since the trial was planned: sweep the same grid again to start from the current"
            " ones. Or this machine has another file of this name: copy the original one here"
        )
    return found
