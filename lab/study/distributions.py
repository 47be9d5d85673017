"""What a study's parameters may be, so widened that Optuna takes the cells of a grid file that has grown."""

from __future__ import annotations

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lab.errors import StudyError

__all__ = ["widened"]


def widened(name: str, old: BaseDistribution | None, new: BaseDistribution) -> BaseDistribution:
    """Return `new` so widened that it holds what `old` does.

    Raises:
        StudyError: one is a number and the other a choice.
    """
    if isinstance(old, CategoricalDistribution) and isinstance(new, CategoricalDistribution):
        return CategoricalDistribution((*old.choices, *(c for c in new.choices if c not in old.choices)))
    if isinstance(old, IntDistribution) and isinstance(new, IntDistribution):
        return IntDistribution(min(old.low, new.low), max(old.high, new.high))
    numbers = IntDistribution | FloatDistribution
    if isinstance(old, numbers) and isinstance(new, numbers):
        return FloatDistribution(min(old.low, new.low), max(old.high, new.high))
    if old is not None:
        raise StudyError(
            f"'{name}' was a {_kind(old)} in this study and is a {_kind(new)} now; give the grid another `name`"
        )
    return new


def _kind(distribution: BaseDistribution) -> str:
    return "choice" if isinstance(distribution, CategoricalDistribution) else "number"
