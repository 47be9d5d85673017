"""The codec between a space and Optuna: how points, choices and ranges look as params and distributions, and back.

In a grid, numbers span a range, so that Optuna's tools plot them as numbers; in a search, listed values are choices.
A list, such as the filters of a net, is represented by its text, because Optuna's choices are single values.

Distributions and params are stored with each trial. What this module writes must not change: studies of earlier
versions would not accept it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from lab.config import Dimension, Point, Range, Space, as_text
from lab.config.dimension import token
from lab.errors import StudyError
from lab.study.keys import OWN_TRIAL

if TYPE_CHECKING:
    from optuna.trial import Trial

    from lab.study.queue import TrialQueue

__all__ = [
    "Codec",
    "accept",
    "accept_grid",
    "accept_search",
    "grid_distributions",
    "search_codec",
    "search_distributions",
]

_Number = IntDistribution | FloatDistribution

_STORED: Final = sa.text(
    "SELECT p.distribution_json FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id "
    f"WHERE t.study_id = :study AND p.param_name = :name AND {OWN_TRIAL} LIMIT 1"
)
_DISTINCT: Final = sa.text(
    "SELECT p.param_name, p.distribution_json FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id "
    f"WHERE t.study_id = :study AND {OWN_TRIAL} GROUP BY p.param_name, p.distribution_json ORDER BY MAX(p.param_id)"
)
_STORE: Final = sa.text(
    "UPDATE trial_params SET distribution_json = :json WHERE param_name = :name "
    f"AND trial_id IN (SELECT t.trial_id FROM trials t WHERE t.study_id = :study AND {OWN_TRIAL})"
)


class Codec:
    """Encodes the points of a space as Optuna params, and decodes them.

    Args:
        space: what varies.
        distributions: a distribution for every dimension, by name.
    """

    def __init__(self, space: Space, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = dict(distributions)
        self._dimensions = {dimension.name: dimension for dimension in space.dimensions}

    def encode(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params of `point`, which may lack dimensions.

        Raises:
            KeyError: a dimension that the space does not have.
        """
        return {name: _param(value, self.distributions[name]) for name, value in point.items()}

    def decode(self, params: Mapping[str, Any]) -> Point:
        """Return the point that `params` represent.

        Raises:
            KeyError: a dimension that the space does not have.
            ValueError: a param that is none of its dimension's candidates.
        """
        return Point({name: self.decode_value(name, param) for name, param in params.items()})

    def decode_value(self, name: str, param: Any) -> Any:
        """Return the value of the dimension `name` that `param` represents.

        Raises:
            KeyError: the space has no such dimension.
            ValueError: none of its candidates.
        """
        dimension = self._dimensions[name]
        if dimension.range is not None:
            return param
        params = [token(_param(value, self.distributions[name])) for value in dimension.candidates]
        return dimension.candidates[params.index(token(param))]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let the trial's sampler choose the param of the dimension `name`, and return it."""
        distribution = self.distributions[name]
        if isinstance(distribution, FloatDistribution):
            return trial.suggest_float(
                name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(
                name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
        return trial.suggest_categorical(name, distribution.choices)  # type: ignore[attr-defined]


def grid_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the distribution of each dimension of a grid, where numbers span a range."""
    return {dimension.name: _shown(dimension) for dimension in space.dimensions}


def search_distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the distribution of each dimension of a search, where listed values are choices."""
    return {dimension.name: _searched(dimension) for dimension in space.dimensions}


def accept(
    distributions: Mapping[str, BaseDistribution], queue: TrialQueue, mixed: Collection[str] = ()
) -> dict[str, BaseDistribution]:
    """Return `distributions`, widened to hold what the study's trials have; those of the trials are widened too.

    Optuna refuses a parameter whose choices differ from those of the study's other trials, so that a grid file
    that gains a choice would need a new study. Choices are stored by position, so appending to them is safe.

    Args:
        distributions: by the name of their parameter.
        queue: of the study.
        mixed: names of the parameters whose distribution is not the same in all trials.

    Raises:
        StudyError: a parameter was a number and is a choice now, or vice versa.
    """
    return queue.storage.patiently(lambda: _accept(distributions, queue, mixed))


def accept_grid(space: Space, queue: TrialQueue) -> Codec:
    """Make the study of `queue` accept the points of a grid, and return their codec.

    Raises:
        StudyError: a parameter was a number and is a choice now, or vice versa.
    """
    return Codec(space, accept(grid_distributions(space), queue))


def accept_search(space: Space, queue: TrialQueue) -> Codec:
    """Make the study of `queue` accept the choices that a search has gained, and return the codec of its points.

    A worker may choose a point with the former choices meanwhile: whoever submits a search calls this again once its
    file is noted, and the worker when it sees that another was.

    Raises:
        StudyError: a parameter changed in a way that Optuna would refuse later.
    """
    distinct = _distinct(queue)
    earlier = _latest(distinct)
    own = search_distributions(space)
    choices = {
        name: _widened(name, earlier.get(name), new)
        for name, new in own.items()
        if isinstance(new, CategoricalDistribution)
    }
    accept(choices, queue, mixed=[name for name, each in distinct.items() if len(each) > 1])
    for name, new in own.items():
        old = earlier.get(name)
        if old is None or isinstance(new, CategoricalDistribution):
            continue
        if type(old) is not type(new) or _is_log(old) != _is_log(new):
            raise StudyError(
                f"'{name}' was {_described(old)} in this study and is {_described(new)} now; "
                "give the file another `name`"
            )
    return search_codec(space, queue)


def search_codec(space: Space, queue: TrialQueue) -> Codec:
    """Return the codec of a search's points in the study of `queue`.

    Optuna refuses choices that differ from those of the study's other trials, so these remain possible: a point
    with a choice that the file no longer has is not trained.
    """
    found = search_distributions(space)
    for name, old in _latest(_distinct(queue)).items():
        if isinstance(old, CategoricalDistribution) and isinstance(found.get(name), CategoricalDistribution):
            found[name] = old
    return Codec(space, found)


def _widened(name: str, old: BaseDistribution | None, new: BaseDistribution) -> BaseDistribution:
    """Return `new`, widened to hold what `old` does.

    Raises:
        StudyError: one is a number and the other a choice.
    """
    if isinstance(old, CategoricalDistribution) and isinstance(new, CategoricalDistribution):
        return CategoricalDistribution((*old.choices, *(c for c in new.choices if c not in old.choices)))
    if isinstance(old, IntDistribution) and isinstance(new, IntDistribution):
        return IntDistribution(min(old.low, new.low), max(old.high, new.high))
    if isinstance(old, _Number) and isinstance(new, _Number):
        return FloatDistribution(min(old.low, new.low), max(old.high, new.high))
    if old is not None:
        raise StudyError(
            f"'{name}' was a {_kind(old)} in this study and is a {_kind(new)} now; give the grid another `name`"
        )
    return new


def _param(value: Any, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        return float(value)
    return as_text(value) if isinstance(value, tuple) else value


def _shown(dimension: Dimension) -> BaseDistribution:
    """Return the distribution of a grid's dimension: what its candidates span, or the candidates themselves."""
    values = dimension.candidates
    kinds = {type(value) for value in values} if dimension.bundles is None else set()
    if kinds == {int}:
        return IntDistribution(min(values), max(values))
    if kinds and kinds <= {int, float} and all(map(math.isfinite, values)):
        return FloatDistribution(min(values), max(values))
    return _choices(dimension)


def _searched(dimension: Dimension) -> BaseDistribution:
    """Return the distribution of a search's dimension: its range, or its candidates as choices."""
    return _choices(dimension) if dimension.range is None else _ranged(dimension.range)


def _choices(dimension: Dimension) -> CategoricalDistribution:
    return CategoricalDistribution(
        [as_text(value) if isinstance(value, tuple) else value for value in dimension.candidates]
    )


def _ranged(numbers: Range) -> BaseDistribution:
    if isinstance(numbers.low, int) and isinstance(numbers.high, int):
        return IntDistribution(numbers.low, numbers.high, log=numbers.log, step=int(numbers.step or 1))
    return FloatDistribution(numbers.low, numbers.high, log=numbers.log, step=numbers.step)


def _accept(
    distributions: Mapping[str, BaseDistribution], queue: TrialQueue, mixed: Collection[str]
) -> dict[str, BaseDistribution]:
    with queue.storage.engine.begin() as connection:
        accepted: dict[str, BaseDistribution] = {}
        for name, new in distributions.items():
            place = {"study": queue.study_id, "name": name}
            stored = connection.execute(
                _STORED, place
            ).scalar()  # the same in all trials that are not `mixed`, since each was accepted
            old = None if stored is None else json_to_distribution(stored)
            accepted[name] = _widened(name, old, new)
            if name in mixed or old not in (None, accepted[name]):
                connection.execute(_STORE, {**place, "json": distribution_to_json(accepted[name])})
        return accepted


def _distinct(queue: TrialQueue) -> dict[str, list[BaseDistribution]]:
    """Return the different distributions of each parameter in the study's trials, the newest first."""
    found: dict[str, list[BaseDistribution]] = {}
    for name, text in reversed(queue.rows(_DISTINCT)):
        found.setdefault(name, []).append(json_to_distribution(text))
    return found


def _latest(distinct: Mapping[str, Sequence[BaseDistribution]]) -> dict[str, BaseDistribution]:
    """Return of each parameter's distributions the one that has all choices, as none is ever taken away."""
    return {name: max(each, key=_choices_of) for name, each in distinct.items()}


def _choices_of(distribution: BaseDistribution) -> int:
    return len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 0


def _kind(distribution: BaseDistribution) -> str:
    return "choice" if isinstance(distribution, CategoricalDistribution) else "number"


def _is_log(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, _Number) and distribution.log


def _described(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return "a choice"
    return "a range on a log scale" if _is_log(distribution) else "a range"
