"""The tables of docs/reference that the code knows: `make reference` writes them into the pages, between its marks.

[Cog](https://cog.readthedocs.io) runs the line in each mark, which prints a table.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lab.config import SECTIONS, TrialConfig, as_text
from lab.config.claims import ClaimEntry
from lab.config.grid import Budget, GridFile
from lab.config.search import SearchFile
from lab.entries import Entry
from lab.registry import registry_of
from lab.training import Outcome

__all__ = ["claim_keys", "grid_keys", "metrics", "names", "outcomes", "search_keys", "settings"]


def settings(section: str) -> None:
    """Print a row for each setting of a section of `lab train --help`."""
    every = list(TrialConfig.model_fields)
    begin = every.index(SECTIONS[section])
    end = min((at for at in map(every.index, SECTIONS.values()) if at > begin), default=len(every))
    _fields("setting", {name: TrialConfig.model_fields[name] for name in every[begin:end]})


def grid_keys() -> None:
    """Print a row for each key of a grid file; `budget` by its own keys."""
    budget = {f"budget.{name}": field for name, field in Budget.model_fields.items()}
    keys = {name: field for name, field in GridFile.model_fields.items() if name != "budget"}
    _fields("key", keys | budget)


def search_keys() -> None:
    """Print a row for each key of `search:`."""
    _fields("key", SearchFile.model_fields)


def claim_keys() -> None:
    """Print a row for each key of an entry of `claims:`."""
    _fields("key", ClaimEntry.model_fields)


def names(kind: str) -> None:
    """Print the names of a kind: in one line those without settings of their own, in a table the others."""
    entries = [registry_of(kind)[name] for name in sorted(registry_of(kind))]
    own = [entry for entry in entries if entry.options or entry.extra]
    if own:
        heads = ("name", "settings of its own", "extra")[: 3 if any(entry.extra for entry in own) else 2]
        rows = [(f"`{entry.name}`", _code(entry.options), _code([entry.extra])) for entry in own]
        _table(heads, (row[: len(heads)] for row in rows))
    plain = [entry.name for entry in entries if entry not in own]
    if plain:
        print("\nWithout settings of their own: " if own else "", _code(plain), sep="")


def metrics() -> None:
    """Print a row for each metric that `metrics` can name."""
    known = registry_of("metric")
    _table(
        ("name", "what it is", "better", "from, to"),
        (
            (
                f"`{name}`",
                _first_line(known[name]).removeprefix("Return ").rstrip("."),
                "higher" if known[name].higher_is_better else "lower",
                ", ".join(f"{bound:g}" for bound in known[name].bounds or ()),
            )
            for name in sorted(known)
        ),
    )


def outcomes() -> None:
    """Print a row for each way in which a trial can end."""
    _table(("`lab.outcome`", "what happened"), ((f"`{one}`", one.meaning) for one in Outcome))


def _fields(what: str, fields: dict[str, FieldInfo]) -> None:
    _table(
        (what, "default", "meaning"),
        (
            (f"`{name}`", _default(field), " ".join((field.description or "").split()))
            for name, field in fields.items()
        ),
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value: Any = field.get_default(call_default_factory=True)
    empty = value is None or value == "" or isinstance(value, BaseModel | dict | list)
    return "–" if empty else as_text(value)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words if word)


def _first_line(entry: Entry) -> str:
    return (inspect.getdoc(entry.load()) or "").split("\n")[0]


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    print(f"| {' | '.join(heads)} |")
    print("|" + "---|" * len(heads))
    for row in rows:
        print(f"| {' | '.join(row)} |")
