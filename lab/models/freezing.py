"""Which parts of a model are not trained, and which are its head.

lab's own architectures name their layers alike: the children of `features` and `classifier` that end in the same
number form a block, and the classifier's last number is the head. The blocks of other nets are their stages: those that
their library names (`lab.models.parts`), or else their children.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from torch import nn

from lab.config import TrialConfig
from lab.errors import ConfigError, Fault
from lab.models.parts import Parts, last_classifier, parts_from_children, parts_of
from lab.wording import counted

__all__ = ["freeze", "frozen_modules", "head_modules", "trained_parameters"]

Block = TypeVar("Block")


def frozen_modules(model: nn.Module, frozen: int | str) -> list[nn.Module]:
    """Return the modules that the config's `freeze` names: those of the first blocks, of all, or none.

    Raises:
        ConfigError: the model has fewer blocks; says how many.
    """
    if frozen == "none":
        return []
    parts = _parts(model)
    if parts is None:
        chosen = _first(_named_blocks(model), frozen)
        return [module for block in chosen for module in block]
    return list(_wholly_of(model, _frozen_names(parts, frozen)))


def freeze(model: nn.Module, frozen: int | str) -> list[nn.Module]:
    """Disable gradients of the blocks that the config's `freeze` names, and return their modules.

    No optimizer changes their parameters. Their running statistics stay fixed only in evaluation mode, which
    `model.train()` ends.

    Raises:
        ConfigError: as `frozen_modules`.
    """
    modules = frozen_modules(model, frozen)
    for module in modules:
        module.requires_grad_(False)
    parts = None if frozen == "none" else _parts(model)
    if parts is not None:
        # parameters such as position embeddings belong to no module that is frozen as a whole
        names = _frozen_names(parts, frozen)
        for name, parameter in model.named_parameters():
            if name in names:
                parameter.requires_grad_(False)
    return modules


def trained_parameters(model: nn.Module, config: TrialConfig) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Return what an optimizer trains of `model`; in two groups if `backbone_lr_factor` is not 1.

    The first group is the head, whose learning rate is `lr`. Groups of frozen parameters are left out.

    Raises:
        ConfigError: the model has no head.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.backbone_lr_factor == 1.0:
        return trained
    heads = {id(p) for module in head_modules(model).values() for p in module.parameters()}
    head = [parameter for parameter in trained if id(parameter) in heads]
    others = [parameter for parameter in trained if id(parameter) not in heads]
    groups: list[dict[str, Any]] = [
        {"params": head, "lr": config.lr},
        {"params": others, "lr": config.lr * config.backbone_lr_factor},
    ]
    return [group for group in groups if group["params"]]


def head_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules by name whose outputs are the classes: one, or several of a net that averages them.

    Raises:
        ConfigError: there is none.
    """
    parts = parts_of(model)
    names = last_classifier(model) if parts is None else parts.head
    if not names:
        message = "has no linear layer or convolution whose outputs are the classes"
        raise ConfigError(Fault(message, "architecture"))
    return {name: model.get_submodule(name) for name in names}


def _parts(model: nn.Module) -> Parts | None:
    """Return the parts of a net that is not made of `features` and a `classifier` as lab's own are, else None."""
    known = parts_of(model)
    if known is not None or {"features", "classifier"} <= dict(model.named_children()).keys():
        return known
    return parts_from_children(model, last_classifier(model))


def _frozen_names(parts: Parts, frozen: int | str) -> set[str]:
    return {name for names in _first(parts.stages, frozen) for name in names}


def _first(blocks: Mapping[str, Block], frozen: int | str) -> list[Block]:
    """Return the first blocks, as many as `freeze` says, or all.

    Raises:
        ConfigError: there are fewer.
    """
    if isinstance(frozen, int) and frozen > len(blocks):
        names = f" ({_abridged(list(blocks))})" if blocks else ""
        message = (
            f"must be at most {len(blocks)}: the model has {counted(len(blocks), 'block')} besides its head{names},"
            f" but got {frozen}"
        )
        raise ConfigError(Fault(message, "freeze"))
    return list(blocks.values())[: frozen if isinstance(frozen, int) else len(blocks)]


def _wholly_of(model: nn.Module, names: Collection[str]) -> Iterator[nn.Module]:
    """Yield the largest modules whose parameters are all among `names`.

    One that has only buffers, such as a norm without weights, belongs to the parameters before it, or to the first.
    """
    first = next((name for name, _ in model.named_parameters()), "")
    yield from _wholly_in(model, "", names, first in names)


def _wholly_in(module: nn.Module, prefix: str, names: Collection[str], preceded: bool) -> Iterator[nn.Module]:
    """Yield as `_wholly_of`; `preceded` is whether the parameters before `module` are among `names`."""
    for name, child in module.named_children():
        own = [f"{prefix}{name}.{parameter}" for parameter, _ in child.named_parameters()]
        if not own:
            whole = preceded and next(child.buffers(), None) is not None
        else:
            whole = all(parameter in names for parameter in own)
        if whole:
            yield child
        elif own:
            yield from _wholly_in(child, f"{prefix}{name}.", names, preceded)
        preceded = whole if own else preceded


def _named_blocks(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the blocks by the name of their main layer (`conv1`, `block2`, `dense1`)."""
    parts = dict(model.named_children())
    groups = [*_by_number(parts["features"]), *_by_number(parts["classifier"])[:-1]]
    return {_title(group): list(group.values()) for group in groups}


def _by_number(part: nn.Module) -> list[dict[str, nn.Module]]:
    """Return the children grouped by the number that ends their names, without groups that have no parameters."""
    groups: dict[str, dict[str, nn.Module]] = {}
    for name, child in part.named_children():
        number = name.removeprefix(name.rstrip("0123456789"))
        groups.setdefault(number, {})[name] = child
    return [group for group in groups.values() if any(map(_has_parameters, group.values()))]


def _title(group: dict[str, nn.Module]) -> str:
    """Return the name of the first child with parameters; a dropout may precede it."""
    return next(name for name, child in group.items() if _has_parameters(child))


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _abridged(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 6 else [*names[:3], "…", names[-1]])
