"""Which parts of a model are not trained.

All architectures here name their layers alike: the children of `features` and `classifier` that end in the same
number form a block, and the classifier's last number is the head.
"""

from __future__ import annotations

from torch import nn

from lab.errors import ConfigError, Fault
from lab.wording import counted

__all__ = ["freezable_blocks", "freeze", "frozen_modules", "head_layer"]


def freezable_blocks(model: nn.Module) -> list[list[nn.Module]]:
    """Return the blocks of `model` from its input on: each is a conv or dense layer with its norm and what follows.

    The head, which is the last linear layer, belongs to none of them.

    Raises:
        ConfigError: the model has no `features` and `classifier`.
    """
    return list(_named_blocks(model).values())


def frozen_modules(model: nn.Module, frozen: int | str) -> list[nn.Module]:
    """Return the modules that the config's `freeze` names: those of the first blocks, of all, or none.

    Raises:
        ConfigError: the model has fewer blocks; says how many.
    """
    if frozen == "none":
        return []
    blocks = _named_blocks(model)
    if isinstance(frozen, int) and frozen > len(blocks):
        raise ConfigError(
            Fault(
                f"must be at most {len(blocks)}: the model has {counted(len(blocks), 'block')} besides its head"
                f" ({_abridged(list(blocks))}), but got {frozen}",
                "freeze",
            )
        )
    count = frozen if isinstance(frozen, int) else len(blocks)
    return [module for block in list(blocks.values())[:count] for module in block]


def freeze(model: nn.Module, frozen: int | str) -> list[nn.Module]:
    """Disable gradients of the modules that the config's `freeze` names, and return these modules.

    No optimizer changes their parameters. Their running statistics stay fixed only in evaluation mode, which
    `model.train()` ends.

    Raises:
        ConfigError: as `frozen_modules`.
    """
    modules = frozen_modules(model, frozen)
    for module in modules:
        module.requires_grad_(False)
    return modules


def head_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return name and module of the last linear layer, whose outputs are the classes.

    Raises:
        ConfigError: there is none.
    """
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError(Fault("has no linear layer whose outputs are the classes", "architecture"))
    return linear[-1]


def _named_blocks(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the blocks by the name of their main layer (`conv1`, `block2`, `dense1`)."""
    parts = dict(model.named_children())
    if not {"features", "classifier"} <= parts.keys():
        raise ConfigError(Fault("needs an architecture made of features and a classifier", "freeze"))
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
