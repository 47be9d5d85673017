"""The parts of a net that another library made: its stages from the input on, and its head.

They are kept beside the net by the names of its parameters, so that the net itself, its state dict and its exported
graph stay those of the library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from torch import nn

__all__ = ["Parts", "last_classifier", "parts_from_children", "parts_from_groups", "parts_of", "set_parts"]

_ATTRIBUTE: Final = "_lab_parts"

# Children that only group the stages of many nets: their own children are the stages.
_CONTAINERS: Final = frozenset(
    {"features", "blocks", "layers", "encoder", "stages", "transformers", "trunk_output", "classifier"}
)


@dataclass(frozen=True)
class Parts:
    """The names of a net's parameters by stage, from the input on, and the names of the modules of its head."""

    stages: Mapping[str, tuple[str, ...]]
    head: tuple[str, ...]


def set_parts(model: nn.Module, parts: Parts) -> None:
    """Remember the parts of `model`; a copy of it has them, too."""
    object.__setattr__(model, _ATTRIBUTE, parts)


def parts_of(model: nn.Module) -> Parts | None:
    """Return the parts that `set_parts` has given to `model`, None for any other."""
    return getattr(model, _ATTRIBUTE, None)


def parts_from_groups(groups: Iterable[Iterable[str]], head: tuple[str, ...]) -> Parts:
    """Return the parts of a net whose library says which parameters belong together.

    Args:
        groups: names of parameters, from the input on; the head's are left out.
        head: names of the modules of the head.
    """
    stages: dict[str, tuple[str, ...]] = {}
    for group in groups:
        names = tuple(name for name in group if not _is_in(name, head))
        if names:
            titles = (_common(names), names[0].rpartition(".")[0], names[0])
            stages[next(title for title in titles if title and title not in stages)] = names
    return Parts(stages, head)


def parts_from_children(model: nn.Module, head: tuple[str, ...]) -> Parts:
    """Return the parts of a net by its children, each a stage; norms belong to the stage before them.

    Parameters of the net itself, such as position embeddings, belong to the first stage.
    """
    stages: dict[str, tuple[str, ...]] = {}
    loose: list[str] = [name for name, _ in model.named_parameters(recurse=False)]
    for title, child in _unfolded(model, "", loose):
        names = tuple(
            name
            for name in (f"{title}.{own}" for own, _ in child.named_parameters())
            if not _is_in(name, head)
        )
        if names and stages and all(parameter.ndim < 2 for parameter in child.parameters()):
            last = next(reversed(stages))
            stages[last] += names
        elif names:
            stages[title] = names
    if stages and loose:
        first = next(iter(stages))
        stages[first] = (*loose, *stages[first])
    return Parts(stages, head)


def last_classifier(model: nn.Module) -> tuple[str, ...]:
    """Return the name of the last linear layer, or of the last convolution of a net without one; empty if none."""
    for kind in (nn.Linear, nn.Conv2d):
        found = [name for name, module in model.named_modules() if isinstance(module, kind)]
        if found:
            return (found[-1],)
    return ()


def _unfolded(module: nn.Module, prefix: str, loose: list[str]) -> Iterable[tuple[str, nn.Module]]:
    """Yield the children of `module` by their whole names; those that only group others, one by one.

    Adds the names of parameters that belong to such a group itself to `loose`.
    """
    for name, child in module.named_children():
        if name in _CONTAINERS and next(child.children(), None) is not None:
            loose += [f"{prefix}{name}.{own}" for own, _ in child.named_parameters(recurse=False)]
            yield from _unfolded(child, f"{prefix}{name}.", loose)
        else:
            yield f"{prefix}{name}", child


def _is_in(name: str, modules: tuple[str, ...]) -> bool:
    return name.startswith(tuple(f"{module}." for module in modules))


def _common(names: tuple[str, ...]) -> str:
    """Return the module that has all these parameters, empty if that is the whole net."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return ".".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))
