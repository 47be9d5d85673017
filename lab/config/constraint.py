"""`Constraint`: a limit on a trial that is checked before any training, such as `params <= 150_000`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lab.config.kinds import field_kinds
from lab.config.own import setting_names
from lab.config.yaml import scalar
from lab.errors import ConfigError
from lab.registry import suggest

__all__ = ["FACTS", "Constraint", "parse_constraint"]

#: What is counted of a model without training it; constraints take these and numeric settings.
FACTS: Final = ("params", "trainable_params", "mult_adds")

_OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_SYNTAX: Final = re.compile(r"\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A fact, a comparison and a limit; `str` gives `params <= 150000`."""

    name: str
    comparison: str
    limit: int | float

    def __str__(self) -> str:
        return f"{self.name} {self.comparison} {self.limit}"

    def violated(self, facts: Mapping[str, Any]) -> str | None:
        """Return how `facts` violate it, or None: `params <= 150000 must hold, but params is 186378`.

        Args:
            facts: counts and settings by name. None does not apply and violates nothing; of one value per layer,
                each must satisfy it.

        Raises:
            KeyError: its name is not in `facts`.
        """
        value = facts[self.name]
        parts = value if isinstance(value, tuple | list) else (value,)
        compare = _OPERATORS[self.comparison]
        broken = [part for part in parts if part is not None and not compare(part, self.limit)]
        return f"{self} must hold, but {self.name} is {broken[0]}" if broken else None

    def excess(self, facts: Mapping[str, Any]) -> float:
        """Return by how much `facts` violate it: above 0 if they do; otherwise at most 0, lower the wider the margin.

        Raises:
            KeyError: its name is not in `facts`.
        """
        value = facts[self.name]
        parts = [
            part for part in (value if isinstance(value, tuple | list) else (value,)) if part is not None
        ]
        return max((self._excess(part) for part in parts), default=0.0)

    def _excess(self, value: float) -> float:
        distance = float(value - self.limit)
        if not _OPERATORS[self.comparison](value, self.limit):
            return abs(distance) or 1.0  # `<` and `!=` can be violated at distance 0
        return -abs(distance) if self.comparison in ("<=", "<", ">=", ">") else 0.0


def parse_constraint(text: str) -> Constraint:
    """Return the constraint that `text` states: a name, a comparison and a number.

    Raises:
        ConfigError: it is malformed, or the name is neither a fact nor a setting that takes only numbers.
    """
    found = _SYNTAX.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"must be a name, one of {' '.join(_OPERATORS)}, and a number, as in 'params <= 150_000',"
            f" but got '{text[:80]}'"
        )
    name, comparison, number = found.groups()
    known = [*FACTS, *(field for field in setting_names() if field_kinds(field) & {int, float})]
    if name not in known:
        raise ConfigError(
            f"unknown name '{name[:80]}'.{suggest(name, known)} A constraint takes {', '.join(FACTS)}"
            " or a numeric setting"
        )
    if str in field_kinds(name):
        raise ConfigError(f"{name} is not always a number; use `exclude` to leave out some of its values")
    return Constraint(name, comparison, _limit(number))


def _limit(text: str) -> int | float:
    try:
        limit = scalar(text)
    except ValueError:
        limit = None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
        raise ConfigError(f"must compare with a number, but got '{text[:80]}'")
    return limit
