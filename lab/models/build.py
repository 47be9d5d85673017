"""Builds the model of a config, and counts its parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy

from lab import registry
from lab.config import TrialConfig
from lab.errors import ConfigError, Fault
from lab.models.freezing import freeze
from lab.models.init import initialize
from lab.models.kernels import avoid_slow_kernels
from lab.models.reading import reason
from lab.models.summary import Summary, counts_by_layer, summarize

__all__ = ["build_model", "skeleton", "summarize_config"]

_COLOURS = 3
_MOST_ALLOCATED = 100_000_000  # parameters of a model that is given memory to be counted

# What a model depends on besides the shape of the data. Cells that differ in other settings share one summary.
_MODEL_FIELDS = (
    "architecture",
    "stem",
    "filters",
    "kernel_size",
    "padding",
    "stride",
    "block",
    "block_depth",
    "expansion",
    "conv_bias",
    "pool",
    "pool_type",
    "norm",
    "activation",
    "conv_dropout",
    "head",
    "dense",
    "dense_norm",
    "dense_activation",
    "dropout",
    "freeze",
    "code_digest",
)
_summaries: dict[tuple[object, ...], Summary] = {}


def build_model(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the model of `config`, initialised from torch's global generator, with `freeze` applied.

    Args:
        config: names the architecture and its settings.
        shape: channels, height and width of an image.
        classes: number of classes.

    Raises:
        ConfigError: the settings do not fit the image size (names the layer), or `freeze` asks for more blocks
            than there are.
    """
    model = _build(config, shape, classes)
    initialize(model, config.init)
    avoid_slow_kernels(model)
    freeze(model, config.freeze)
    return model


def _build(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    entry = registry.architectures[config.architecture]
    if not entry.plain:
        model: nn.Module = entry.load()(config, shape, classes)
        return model
    built = entry.load()(shape, classes, **entry.arguments(config))
    if not isinstance(built, nn.Module):
        raise ConfigError(
            Fault(f"'{config.architecture}' must return an nn.Module, but got {built!r}", "architecture")
        )
    if not list(built.parameters()):
        raise ConfigError(Fault(f"'{config.architecture}' has no parameters to train", "architecture"))
    if any(map(is_lazy, built.parameters())):
        with torch.no_grad():
            built.eval()(torch.zeros(1, *shape))  # lazy layers get their sizes from a first image
        built.train()
    return built


def skeleton(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the model of `config` without allocating it: on the meta device, where names and shapes are known.

    Raises:
        ConfigError: as `build_model`.
    """
    try:
        with torch.device("meta"):
            return build_model(config, shape, classes)
    except (RuntimeError, TypeError):  # its constructor may read values, which the meta device does not have
        pass
    with torch.random.fork_rng(devices=[]), _parameters_on_meta():
        return build_model(config, shape, classes)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Move each parameter and buffer to the meta device when a module gets it: only one at a time is allocated."""

    def moved(module: nn.Module, name: str, given: Any) -> Any:
        if isinstance(given, nn.Parameter):
            return nn.Parameter(given.to("meta"), given.requires_grad)
        return None if given is None else given.to("meta")

    hooks = [
        register_module_parameter_registration_hook(moved),
        register_module_buffer_registration_hook(moved),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def summarize_config(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> Summary:
    """Return the summary of a config's model without allocating it, unless it is small.

    Raises:
        ConfigError: as `build_model`, or the model cannot take such images, gives no value per class, or has batch
            normalisation that cannot be trained with batches of one image.
    """
    key = (*(getattr(config, name) for name in _MODEL_FIELDS), *config.own_values(), shape, classes)
    if key not in _summaries:
        _summaries[key] = _summarize(config, shape, classes)
    summary = _summaries[key]
    if config.batch_size == 1 and summary.pointwise_norms:
        raise ConfigError(_batch_fault(config, summary.pointwise_norms[0]))
    return summary


def _summarize(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> Summary:
    model = skeleton(config, shape, classes)
    if counts_by_layer(model) and sum(p.numel() for p in model.parameters()) <= _MOST_ALLOCATED:
        _allocate(model)  # on the meta device, torch imports its compiler to run it
    try:
        return summarize(model, shape, classes)
    except ConfigError:
        raise
    except Exception as error:  # whatever a net raises for images that it cannot take
        if registry.architectures[config.architecture].library is not None:
            message = _refusal(config, shape, classes, error)
        elif "meta" in str(error):  # the device of the skeleton, whose tensors have no values
            message = _reads_values(config, error)
        else:  # a user's own net: its traceback says where
            raise
        raise ConfigError(Fault(message, "architecture")) from error


def _allocate(model: nn.Module) -> None:
    """Give a model of the meta device memory on the CPU, with any weights."""
    state = model.state_dict()  # with the version of each module's
    for name, meta in state.items():
        state[name] = torch.empty(meta.shape, dtype=meta.dtype)
    model.load_state_dict(state, assign=True)


def _refusal(config: TrialConfig, shape: tuple[int, int, int], classes: int, error: Exception) -> str:
    """Return in words that a net cannot take images of `shape`, because of their channels or of their size."""
    message = f"{config.architecture} cannot take images of {'×'.join(map(str, shape))}: {reason(error)}"
    coloured = (_COLOURS, *shape[1:])
    if shape != coloured:
        with suppress(Exception):
            summarize(skeleton(config, coloured, classes), coloured, classes)
            return f"{message}. It takes only images of {_COLOURS} channels; choose another net"
    takes_size = "image_size" in registry.datasets[config.dataset].options
    return f"{message}. Set another image_size" if takes_size else message


def _reads_values(config: TrialConfig, error: Exception) -> str:
    return (
        f"'{config.architecture}' reads the values of a tensor in forward ({reason(error)}). Its model could not be "
        "logged: that is a graph with one path for all images. Use operations on tensors instead, such as torch.where"
    )


def _batch_fault(config: TrialConfig, layer: str) -> Fault:
    options = registry.architectures[config.architecture].options
    if "dense_norm" in options and not layer.startswith("features."):
        setting, change = f"dense_norm={config.dense_norm}", ", or set dense_norm to none"
    elif "norm" in options:
        setting, change = f"norm={config.norm}", ", or set norm to none"
    else:
        setting, change = f"architecture={config.architecture}", ""
    message = (
        f"batch_size=1 does not work with {setting}: batch normalisation cannot be trained on the single value"
        f" per channel that {layer} gets from one image; set batch_size to 2 or more{change}"
    )
    return Fault(message, "batch_size")
