"""The sampler `auto`: it chooses points by what a model of the results so far expects of those that are left."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState

from lab.config import Dimension, Space
from lab.study.distributions import Codec
from lab.study.record import TrialRecord
from lab.training import Outcome

__all__ = ["choose", "next_point"]

_STARTUP = 6  # points that are drawn before there is a model
_MOST_POINTS = 1_000  # that are compared; of a larger space, so many are drawn
_TREES = 30

Params = Mapping[str, Any]


def next_point(
    space: Space, codec: Codec, records: Collection[TrialRecord], rng: np.random.Generator, *, maximize: bool
) -> dict[str, Any] | None:
    """Return the params of the point that a search tries next; None if all points were tried.

    Args:
        space: what is searched.
        codec: of its points.
        records: of all trials of the study.
        rng: draws points, and the trees of the model.
        maximize: whether higher values of the monitored metric are better.
    """
    tried = {_identity({**(record.enqueued or {}), **record.trial.params}) for record in records}
    drawn = (codec.encode(point) for point in _points(space, len(tried), rng))
    points = [params for params in drawn if _identity(params) not in tried]
    if not points:
        return None
    return points[choose(points, _results(records, maximize=maximize), codec.distributions, rng)]


def choose(
    points: Sequence[Params],
    results: Sequence[tuple[Params, float]],
    distributions: Mapping[str, BaseDistribution],
    rng: np.random.Generator,
) -> int:
    """Return the number of the most promising of `points`.

    Sequential model-based optimization with randomized trees, which suit choices and conditions: Hutter et al. (2011),
    doi:10.1007/978-3-642-25566-3_40. They learn the ranks of the results, so that any metric will do.

    Args:
        points: the params of each; not empty.
        results: of points that were tried: their params, and a value of which higher is better.
        distributions: of all params, by name.
        rng: draws the first points, and the trees.
    """
    if len(results) < _STARTUP:
        return int(rng.integers(len(points)))
    from sklearn.ensemble import ExtraTreesRegressor  # half a second that only this sampler needs

    ranks = np.argsort(np.argsort([value for _, value in results]))
    model = ExtraTreesRegressor(_TREES, bootstrap=True, random_state=int(rng.integers(2**31)))
    model.fit(_encoded((params for params, _ in results), distributions), ranks)
    rows = _encoded(points, distributions)
    expected = np.array([tree.predict(rows) for tree in model.estimators_])  # [T, P]
    promise = expected.mean(axis=0) + expected.std(axis=0)
    return int(rng.choice(np.flatnonzero(promise == promise.max())))


def _points(space: Space, tried: int, rng: np.random.Generator) -> Iterable[Mapping[str, Any]]:
    """Return all points of a space, or as many of them as are compared."""
    if any(dimension.range is not None for dimension in space.dimensions):
        return (space.build(lambda dimension: _drawn(dimension, rng)) for _ in range(_MOST_POINTS))
    if space.size <= tried + _MOST_POINTS:
        return space
    return (space.at(int(number)) for number in rng.integers(space.size, size=_MOST_POINTS))


def _drawn(dimension: Dimension, rng: np.random.Generator) -> Any:
    if dimension.range is not None:
        return dimension.range.at(rng.random())
    return dimension.candidates[rng.integers(len(dimension.candidates))]


def _results(records: Iterable[TrialRecord], *, maximize: bool) -> list[tuple[Params, float]]:
    """Return what came of the trials that have ended, after as many epochs as all of them have trained.

    Those that diverged before they had a result are worse than all others.
    """
    newest = {record.cell: record for record in records if not record.is_void}.values()
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    trained = [one for one in newest if one.epoch and (one.trial.state in ended or one.promoted)]
    shortest = min((one.epoch for one in trained), default=0)
    sign = 1 if maximize else -1
    found = ((one.trial.params, one.best_until(shortest, maximize=maximize)) for one in trained)
    diverged = (one.trial.params for one in newest if one.outcome == Outcome.DIVERGED and not one.epoch)
    return [
        *((params, sign * value) for params, value in found if value is not None),
        *((params, -math.inf) for params in diverged),
    ]


def _identity(params: Params) -> frozenset[tuple[str, bool, Any]]:
    return frozenset((name, isinstance(value, bool), value) for name, value in params.items())


def _encoded(points: Iterable[Params], distributions: Mapping[str, BaseDistribution]) -> NDArray[np.float64]:
    """Return a row of numbers for each point, [P, D]; what a condition leaves out is 0."""
    return np.array(
        [
            [number for name, each in distributions.items() for number in _numbers(params.get(name), each)]
            for params in points
        ]
    )


def _numbers(value: Any, distribution: BaseDistribution) -> list[float]:
    """Return a param as one number if it is one, otherwise as one for each of its choices."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        if not all(isinstance(choice, int | float) for choice in choices):
            return [float(value == choice) for choice in choices]
    return [0.0 if value is None else float(value)]
