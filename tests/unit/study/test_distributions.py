"""The codec between spaces and Optuna: what is stored stays the same, and every point survives the round trip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from lab.config import Dimension, Space, as_text, load_grid, parse_grid
from lab.study.distributions import Codec, grid_distributions, search_distributions

GRIDS = sorted((Path(__file__).parents[3] / "grids").glob("*.yaml"))

#: What the databases of earlier studies hold: for each parameter, its distribution; then the params of the last point.
STORED: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "quickstart": (
        {
            "activation": '{"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "gelu"]}}',
            "lr": '{"name": "FloatDistribution", "attributes": '
            '{"step": null, "low": 0.003, "high": 0.03, "log": false}}',
            "optimizer": '{"name": "CategoricalDistribution", "attributes": {"choices": ["adam", "sgd"]}}',
            "depth": '{"name": "IntDistribution", "attributes": '
            '{"log": false, "step": 1, "low": 2, "high": 3}}',
        },
        {"activation": "gelu", "lr": 0.03, "optimizer": "sgd", "depth": 3},
    ),
    "quickstart_search": (
        {
            "lr": '{"name": "FloatDistribution", "attributes": '
            '{"step": null, "low": 0.0003, "high": 0.1, "log": true}}',
            "width": '{"name": "IntDistribution", "attributes": '
            '{"log": false, "step": 8, "low": 8, "high": 32}}',
            "optimizer": '{"name": "CategoricalDistribution", "attributes": {"choices": ["adam", "sgd"]}}',
            "momentum": '{"name": "FloatDistribution", "attributes": '
            '{"step": null, "low": 0.0, "high": 0.95, "log": false}}',
            "net": '{"name": "CategoricalDistribution", "attributes": {"choices": ["plain", "normed"]}}',
        },
        {"lr": 0.1, "width": 32, "optimizer": "sgd", "momentum": 0.95, "net": "normed"},
    ),
    "svhn_transfer": (
        {
            "init_from": '{"name": "CategoricalDistribution", "attributes": '
            '{"choices": [null, "best:svhn_pretrain"]}}',
            "freeze": '{"name": "CategoricalDistribution", "attributes": '
            '{"choices": ["none", 1, 2, 3, 4, 5]}}',
            "seed": '{"name": "IntDistribution", "attributes": '
            '{"log": false, "step": 1, "low": 0, "high": 4}}',
        },
        {"init_from": "best:svhn_pretrain", "freeze": 5, "seed": 4},
    ),
    "cifar10_models": (
        {
            "model": '{"name": "CategoricalDistribution", "attributes": '
            '{"choices": ["relu", "relu_bn", "leaky_bn", "leaky_bn_dropout"]}}',
            "lr": '{"name": "FloatDistribution", "attributes": '
            '{"step": null, "low": 0.001, "high": 0.005, "log": false}}',
            "optim": '{"name": "CategoricalDistribution", "attributes": '
            '{"choices": ["adam", "sgd_0.5", "sgd_0.9"]}}',
        },
        {"model": "leaky_bn_dropout", "lr": 0.005, "optim": "sgd_0.9"},
    ),
}

CANDIDATES = [
    st.lists(st.integers(-5, 5), min_size=1, max_size=4, unique=True),
    st.lists(st.floats(-1, 1) | st.integers(2, 4), min_size=1, max_size=4, unique=True),
    st.permutations([True, False, None, 0, 2.5, "relu", math.inf]),
    st.permutations([(), (8, 4), (8,), "gelu"]),
]
RANGES = [
    "lr: {low: 0.001, high: 0.1, log: true}",
    "momentum: {low: 0, high: 0.5, step: 0.125}",
    "width: {low: 8, high: 32, step: 8}",
    "width: {low: 1, high: 64, log: true}",
    "dense: [[], [8, 4]]",
    "patience: [null, 3, 5]",
    "net: {plain: {activation: relu}, normed: {activation: gelu, norm: batch}}",
]


def codecs(space: Space) -> list[Codec]:
    return [Codec(space, found(space)) for found in (grid_distributions, search_distributions)]


def test_what_is_stored_of_shipped_grids_in_full() -> None:
    for name, (distributions, params) in STORED.items():
        grid = load_grid(GRIDS[0].with_name(f"{name}.yaml"))
        found = grid_distributions(grid.space) if grid.search is None else search_distributions(grid.space)
        assert {key: distribution_to_json(each) for key, each in found.items()} == distributions
        assert Codec(grid.space, found).encode(grid.space.at(grid.space.size - 1)) == params


def as_stored_by_version_0_1(dimension: Dimension, *, search: bool) -> BaseDistribution:
    """Return what lab.config.space and lab.config.ranges made of a dimension before study/distributions.py did."""
    values, spread = dimension.candidates, dimension.range
    if search and spread is not None:
        if isinstance(spread.low, int):
            return IntDistribution(spread.low, int(spread.high), log=spread.log, step=int(spread.step or 1))
        return FloatDistribution(spread.low, spread.high, log=spread.log, step=spread.step)
    kinds = {type(value) for value in values} if dimension.bundles is None and not search else set()
    if kinds == {int}:
        return IntDistribution(min(values), max(values))
    if kinds in ({float}, {int, float}) and all(map(math.isfinite, values)):
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution([as_text(v) if isinstance(v, tuple) else v for v in values])


@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_what_is_stored_of_every_shipped_grid_is_what_earlier_versions_stored(file: Path) -> None:
    grid = load_grid(file)
    search = grid.search is not None
    found = search_distributions(grid.space) if search else grid_distributions(grid.space)
    before = {dim.name: as_stored_by_version_0_1(dim, search=search) for dim in grid.space.dimensions}
    assert {name: distribution_to_json(each) for name, each in found.items()} == {
        name: distribution_to_json(each) for name, each in before.items()
    }
    codec = Codec(grid.space, found)
    for point in grid.space:
        params = codec.encode(point)
        assert params == {name: as_text(v) if isinstance(v, tuple) else v for name, v in point.items()}
        assert codec.decode(params) == point


def fits(params: Mapping[str, Any], codec: Codec) -> bool:
    """Return whether Optuna accepts the params of a trial."""
    stored = {name: each.to_internal_repr(params[name]) for name, each in codec.distributions.items()}
    return all(each._contains(stored[name]) for name, each in codec.distributions.items())


@given(st.lists(st.one_of(CANDIDATES), min_size=1, max_size=4))
def test_every_point_encodes_and_decodes_to_itself(drawn: list[Any]) -> None:
    variants = {"plain": {"p": 1}, "1": {"p": 2}, "none": {}}
    space = Space({"net": variants, **{f"d{number}": values for number, values in enumerate(drawn)}})
    for codec in codecs(space):
        for number in range(0, space.size, 1 + space.size // 50):
            point = space.at(number)
            params = codec.encode(point)
            assert fits(params, codec)
            decoded = codec.decode(params)
            assert decoded == point
            assert [type(value) for value in decoded.values()] == [type(value) for value in point.values()]


@given(st.lists(st.sampled_from(RANGES), min_size=1, unique_by=lambda text: text.split(":")[0]), st.data())
def test_every_point_of_ranges_encodes_and_decodes_to_itself(drawn: list[str], data: st.DataObject) -> None:
    grid = parse_grid(f"search: {{space: {{{', '.join(drawn)}}}}}\nbudget: {{trials: 3}}", "g.yaml")
    codec = Codec(grid.space, search_distributions(grid.space))

    def choose(dimension: Dimension) -> Any:
        if dimension.range is None:
            return data.draw(st.sampled_from(dimension.candidates))
        low, high = dimension.range.ends
        share = data.draw(st.integers(0, 4)) / 4  # on a step where there are any
        value = low + (high - low) * share
        return round(value) // 8 * 8 if dimension.range.step == 8 else type(low)(value)

    point = grid.space.build(choose)
    params = codec.encode(point)
    assert fits(params, codec)
    assert codec.decode(params) == point


def test_a_param_that_is_no_candidate() -> None:
    (codec, _) = codecs(Space({"a": [1, 2], "b": ["x"]}))
    assert codec.decode({"a": 2.0, "b": "x"}) == {"a": 2, "b": "x"}
    for wrong in ({"a": 3}, {"a": True}, {"b": "y"}):
        with pytest.raises(ValueError, match="not in"):
            codec.decode(wrong)
    with pytest.raises(KeyError, match="z"):
        codec.encode({"z": 1})


def test_distributions_by_kind() -> None:
    space = Space(
        {
            "depth": [4, 2],
            "lr": [0.1, 1],
            "nesterov": [True, False],
            "patience": [None, 3],
            "dense": [[], [8, 4]],
            "odd": [1.0, math.inf],
            "net": {"a": {"norm": "batch"}, "b": {}},
        }
    )
    distributions = grid_distributions(space)
    assert {name: repr(distribution) for name, distribution in distributions.items()} == {
        "depth": "IntDistribution(high=4, log=False, low=2, step=1)",
        "lr": "FloatDistribution(high=1.0, log=False, low=0.1, step=None)",
        "nesterov": "CategoricalDistribution(choices=(True, False))",
        "patience": "CategoricalDistribution(choices=(None, 3))",
        "dense": "CategoricalDistribution(choices=('none', '8,4'))",
        "odd": "CategoricalDistribution(choices=(1.0, inf))",
        "net": "CategoricalDistribution(choices=('a', 'b'))",
    }
    params = Codec(space, distributions).encode(space.at(space.size - 1))
    assert params["dense"] == "8,4"
    assert type(params["lr"]) is float
