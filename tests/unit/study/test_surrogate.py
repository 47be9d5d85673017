"""The sampler `auto`: it finds the good points of a space early, and tries none twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from lab.config import Range, Space
from lab.study.distributions import Codec, search_distributions
from lab.study.record import TrialRecord
from lab.study.search.surrogate import choose, next_point

SPACE = Space(
    {"lr": [0.001, 0.003, 0.01, 0.03, 0.1], "optimizer": ["adam", "sgd"], "momentum": [0.0, 0.5, 0.9], "width": [4, 8]},
    when={"momentum": {"optimizer": "sgd"}},
)  # fmt: skip
RANGES = Space(
    {"lr": Range(0.001, 0.1, log=True), "width": Range(4, 16, step=4), "optimizer": ["adam", "sgd"]}
)


def codec(space: Space) -> Codec:
    return Codec(space, search_distributions(space))


def quality(params: dict[str, Any]) -> float:
    """Return a value that is best near lr=0.01, with SGD and the highest momentum."""
    distance = abs(np.log10(params["lr"]) + 2)
    return float(1 - 0.3 * distance + 0.2 * params.get("momentum", 0.2) + 0.01 * (params["width"] > 4))


def record(
    number: int, params: dict[str, Any], curve: Iterable[float], space: Space, **more: object
) -> TrialRecord:
    distributions = search_distributions(space)
    trial = create_trial(
        state=TrialState.PRUNED,
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs={"lab:cell": f"slot-{number}", "lab:label": "x"}
        | {f"lab:{key}": more[key] for key in more},
        intermediate_values=dict(enumerate(curve, start=1)),
    )
    trial.number = number
    return TrialRecord(trial)


def searched(space: Space, tries: int, *, maximize: bool = True, seed: int = 0) -> list[dict[str, Any]]:
    """Return the points that a search tries, whose results are of one epoch."""
    records: list[TrialRecord] = []
    for number in range(tries):
        rng = np.random.default_rng([seed, number])
        params = next_point(space, codec(space), records, rng, maximize=maximize)
        if params is None:
            break
        value = quality(params) if maximize else -quality(params)
        records.append(record(number, params, [value], space))
    return [one.trial.params for one in records]


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_point_is_among_the_first_half(seed: int, maximize: bool) -> None:
    best = max((codec(SPACE).encode(point) for point in SPACE), key=quality)
    assert best in searched(SPACE, SPACE.size // 2, maximize=maximize, seed=seed)


def test_every_point_is_tried_once_and_then_none_is_left() -> None:
    points = searched(SPACE, SPACE.size + 5)
    assert len(points) == SPACE.size == len({str(point) for point in points})


def test_a_point_that_another_worker_is_about_to_try_is_taken() -> None:
    space = Space({"width": [4, 8]})
    taken = record(0, {}, [], space, enqueued={"width": 4})
    assert next_point(space, codec(space), [taken], np.random.default_rng(0), maximize=True) == {"width": 8}


def test_ranges_are_searched_too() -> None:
    points = searched(RANGES, 30)
    assert {point["width"] for point in points} <= {4, 8, 12, 16}
    assert all(0.001 <= point["lr"] <= 0.1 for point in points)
    found = max(map(quality, points))
    assert found > np.mean([quality(point) for point in points[:6]])
    assert found > 1.02  # at most 1.05


def test_trials_are_compared_after_as_many_epochs_as_all_have() -> None:
    space = Space({"lr": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]})
    # with more epochs, low rates have come further; after one, high rates are ahead
    curves = {lr: [lr, 0.99, 1.0] if lr < 0.4 else [lr] for lr in (0.1, 0.2, 0.3, 0.6, 0.7, 0.8)}
    records = [record(number, {"lr": lr}, curve, space) for number, (lr, curve) in enumerate(curves.items())]
    found = next_point(space, codec(space), records, np.random.default_rng(0), maximize=True)
    assert found == {"lr": 0.9}


def test_what_diverged_before_its_first_result_is_avoided() -> None:
    tried = [codec(SPACE).encode(point) for point in SPACE][::2]
    records = [
        record(number, params, [], SPACE, outcome="diverged")
        if params["lr"] > 0.02
        else record(number, params, [quality(params)], SPACE, outcome="completed")
        for number, params in enumerate(tried)
    ]
    for seed in range(5):
        params = next_point(SPACE, codec(SPACE), records, np.random.default_rng(seed), maximize=True)
        assert params is not None
        assert params["lr"] < 0.02


def test_the_first_points_are_drawn() -> None:
    points = [{"lr": lr} for lr in (0.1, 0.2, 0.3)]
    distributions = search_distributions(Space({"lr": [0.1, 0.2, 0.3]}))
    drawn = {choose(points, [], distributions, np.random.default_rng(seed)) for seed in range(20)}
    assert drawn == {0, 1, 2}
