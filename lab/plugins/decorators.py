"""The decorators by which a plug-in registers what it defines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, overload

from lab import registry
from lab.errors import ConfigError
from lab.plugins.loading import digest_of
from lab.plugins.parameters import options_of, own_parameters
from lab.registry import Entry

__all__ = [
    "activation",
    "architecture",
    "augmentation",
    "dataset",
    "loss",
    "metric",
    "optimizer",
    "scheduler",
]

Target = TypeVar("Target", bound=Callable[..., Any])


@overload
def architecture(target: Target, /) -> Target: ...
@overload
def architecture(
    name: str | None = None, /, *, options: Iterable[str] = ()
) -> Callable[[Target], Target]: ...
def architecture(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register a net: a function or class (shape [C, H, W], classes) -> nn.Module, [B, C, H, W] -> [B, classes].

    Keyword-only parameters are settings of its own. `options` names settings of lab that it takes as well, as
    keyword arguments. The name is the function's, unless another is given: `@lab.architecture("my-net")`.

    Raises:
        ConfigError: the name is taken, or a parameter lacks its type.
    """
    return _registering("architecture", target, options, plain=True)


@overload
def activation(target: Target, /) -> Target: ...
@overload
def activation(name: str | None = None, /) -> Callable[[Target], Target]: ...
def activation(target: Any = None, /) -> Any:
    """Register an activation: a class or function without arguments that returns an nn.Module; see `architecture`."""
    return _registering("activation", target)


@overload
def optimizer(target: Target, /) -> Target: ...
@overload
def optimizer(name: str | None = None, /, *, options: Iterable[str] = ()) -> Callable[[Target], Target]: ...
def optimizer(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register an optimizer: (params, lr) -> torch.optim.Optimizer; see `architecture`."""
    return _registering("optimizer", target, options)


@overload
def scheduler(target: Target, /) -> Target: ...
@overload
def scheduler(name: str | None = None, /, *, options: Iterable[str] = ()) -> Callable[[Target], Target]: ...
def scheduler(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register a learning-rate schedule: (optimizer) -> torch's LRScheduler, stepped after every epoch.

    See `architecture`; `options=["epochs"]` passes the maximum number of epochs.
    """
    return _registering("scheduler", target, options, plain=True)


@overload
def loss(target: Target, /) -> Target: ...
@overload
def loss(name: str | None = None, /, *, options: Iterable[str] = ()) -> Callable[[Target], Target]: ...
def loss(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register a loss: (images per class, [classes]) -> nn.Module, logits [B, classes] and labels [B] -> mean loss.

    See `architecture`.
    """
    return _registering("loss", target, options)


@overload
def augmentation(target: Target, /) -> Target: ...
@overload
def augmentation(
    name: str | None = None, /, *, options: Iterable[str] = ()
) -> Callable[[Target], Target]: ...
def augmentation(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register an augmentation: (images uint8 [B, C, H, W], torch.Generator) -> images of the same shape.

    One that has a parameter `labels` mixes images, after all others and after normalisation: (images float
    [B, C, H, W], labels float [B, classes], torch.Generator) -> both of the same shapes; a label is the share of each
    class.

    Draw from the generator alone, which is on the CPU: only then can a trial be continued bit for bit. See
    `architecture`.
    """
    return _registering("augmentation", target, options)


@overload
def dataset(target: Target, /) -> Target: ...
@overload
def dataset(name: str | None = None, /, *, options: Iterable[str] = ()) -> Callable[[Target], Target]: ...
def dataset(target: Any = None, /, *, options: Iterable[str] = ()) -> Any:
    """Register a dataset: a function that returns arrays, a map-style torch Dataset, or a `lab.data.Source`.

    A parameter `data_dir` is the data folder, a Path. See `architecture`, and docs/OWN.md for what it may return.
    """
    return _registering("dataset", target, options)


@overload
def metric(target: Target, /) -> Target: ...
@overload
def metric(
    name: str | None = None, /, *, higher_is_better: bool | None = None
) -> Callable[[Target], Target]: ...
def metric(target: Any = None, /, *, higher_is_better: bool | None = None) -> Any:
    """Register a metric: a torchmetrics.Metric class, or a function that returns one, called with `num_classes`.

    It is updated with probabilities [N, classes] and labels [N]. `higher_is_better` may be an attribute of the class,
    as torchmetrics has it. See `architecture`.
    """
    return _registering("metric", target, higher_is_better=higher_is_better)


def _registering(kind: str, target: Any, options: Iterable[str] = (), **facts: Any) -> Any:
    """Register `target`, or return a decorator that registers under the name that `target` is."""
    if target is not None and not isinstance(target, str):
        _register(kind, target.__name__, target, options, facts)
        return target

    def decorate(decorated: Target) -> Target:
        _register(kind, target or decorated.__name__, decorated, options, facts)
        return decorated

    return decorate


def _register(kind: str, name: str, target: Any, options: Iterable[str], facts: Mapping[str, Any]) -> None:
    known, module = registry.registry_of(kind), _module_of(target)
    if name in known and known[name].module == module and _is_again(known[name].target, target):
        known.remove(known[name].name)  # a notebook's cell that is run again, or a module that is reloaded
    options = options_of(kind, target, options)
    own = own_parameters(kind, name, target, options)
    code = "" if module else _source_digest(target)
    entry = Entry(name, target, options, parameters=own, module=module, code=code, **facts)
    try:
        known.add(entry)
    except ValueError as error:
        raise ConfigError(f"{error}; give it another name: @lab.{kind}('my_{name}')") from None


def _source_digest(target: Any) -> str:
    """Return the digest of what a notebook or a script defines; empty if its source is not known."""
    try:
        return digest_of(inspect.getsource(target))
    except (OSError, TypeError):
        return ""


def _is_again(one: Any, other: Any) -> bool:
    return bool(getattr(one, "__qualname__", one) == getattr(other, "__qualname__", other))


def _module_of(target: Any) -> str:
    """Return the module that defines `target`; empty if it is the main script or a notebook."""
    name: str = getattr(target, "__module__", "") or ""
    return "" if name == "__main__" else name
