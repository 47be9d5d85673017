"""Space: the bijection and conditions."""

from __future__ import annotations

import itertools
import pickle
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.config import Point, Space
from lab.errors import ConfigError

NAMES = "abcdef"
VARIANTS = {"x": {"p": 1}, "y": {"p": 2, "q": 1}, "z": {}}


@st.composite
def spaces(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Draw a grid, a `when` without circles, and constants."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    grid: dict[str, Any] = {
        name: list(range(draw(st.integers(1, 4)))) for name in draw(st.permutations(names))
    }
    if draw(st.booleans()):
        grid["net"] = {label: VARIANTS[label] for label in draw(st.permutations(list(VARIANTS)))}
        grid = {name: grid[name] for name in draw(st.permutations(list(grid)))}
    constants = {"k": 7, "p": 9}
    order = draw(st.permutations(list(grid)))
    when: dict[str, Any] = {}
    for place, name in enumerate(order):
        keys = draw(st.lists(st.sampled_from([*order[:place], "k"]), unique=True, max_size=2))
        clauses = {key: draw(_condition(key, grid)) for key in keys}
        if "net" in keys and draw(st.booleans()):
            clauses["p"] = draw(st.sampled_from([1, 2, 9, [1, 9]]))
        if clauses:
            when[name] = clauses
    return grid, when, constants


def _condition(key: str, grid: dict[str, Any]) -> st.SearchStrategy[Any]:
    if key == "k":
        return st.just(7)
    values = list(grid[key])
    return st.one_of(st.sampled_from(values), st.lists(st.sampled_from(values), min_size=1, unique=True))


def brute_force(grid: dict[str, Any], when: dict[str, Any], constants: dict[str, Any]) -> set[Any]:
    """Every combination of all candidates, inactive ones struck out, as a set."""

    def active(name: str, chosen: dict[str, Any]) -> bool:
        return all(holds(key, wanted, chosen) for key, wanted in when.get(name, {}).items())

    def holds(key: str, wanted: Any, chosen: dict[str, Any]) -> bool:
        wanted = wanted if isinstance(wanted, list) else [wanted]
        if key in grid:
            return active(key, chosen) and chosen[key] in wanted
        if key == "p" and "net" in grid:
            return active("net", chosen) and VARIANTS[chosen["net"]].get("p", constants["p"]) in wanted
        return constants[key] in wanted

    found = set()
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        found.add(tuple((name, chosen[name]) for name in grid if active(name, chosen)))
    return found


@given(spaces())
def test_at_and_index_are_a_bijection_onto_all_distinct_points(drawn):
    space = Space(*drawn)
    points = list(space)
    assert {tuple(point.items()) for point in points} == brute_force(*drawn)
    assert len(points) == len(set(points)) == len(space) == space.size
    for index, point in enumerate(points):
        assert space.index(point) == space.index(dict(point)) == index


def test_last_dimension_changes_fastest():
    space = Space({"a": [1, 2], "b": ["x", "y", "z"]})
    assert [tuple(point.values()) for point in space] == [
        (1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z"),
    ]  # fmt: skip


def test_the_example_of_the_module():
    space = Space(
        {"optimizer": ["adam", "sgd"], "momentum": [0.5, 0.9], "net": {"plain": {}, "bn": {"norm": "batch"}}},
        when={"momentum": {"optimizer": "sgd"}},
    )
    assert space.size == 6
    point = space.at(5)
    assert repr(point) == "Point(optimizer=sgd, momentum=0.9, net=bn)"
    assert space.values(point) == {"optimizer": "sgd", "momentum": 0.9, "norm": "batch"}
    assert space.at(0) == {"optimizer": "adam", "net": "plain"}
    assert repr(space) == "Space(optimizer: 2, momentum: 2, net: 2; 6 cells)"


def test_chains_of_conditions():
    space = Space({"a": [1, 2], "b": [1, 2], "c": [1, 2]}, when={"c": {"b": 1}, "b": {"a": [1]}})
    assert [dict(point) for point in space] == [
        {"a": 1, "b": 1, "c": 1},
        {"a": 1, "b": 1, "c": 2},
        {"a": 1, "b": 2},
        {"a": 2},
    ]


def test_a_space_of_nothing_is_one_point():
    space = Space({})
    assert (space.size, dict(space.at(0)), space.index({})) == (1, {}, 0)


def test_a_huge_space_costs_nothing():
    grid = {f"f{i}": list(range(100)) for i in range(12)}
    started = time.perf_counter()
    space = Space({**grid, "g": [1, 2]}, when={"f11": {"f0": [3, 4]}})
    assert space.size == 2 * (2 * 100**11 + 98 * 100**10)
    for index in (0, space.size // 3, space.size - 1):
        assert space.index(space.at(index)) == index
    assert time.perf_counter() - started < 30  # not for ever
    with pytest.raises(OverflowError, match=r"cannot fit|too large"):
        len(space)
    assert space.size > sys.maxsize


def test_points_and_spaces_hash_compare_and_pickle():
    space = Space({"a": [1, 2], "dense": [[], [8, 4]]}, when={"dense": {"a": 2}})
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    assert hash(again) == hash(space)
    assert again.at(2) == space.at(2) == {"a": 2, "dense": (8, 4)}
    assert hash(again.at(2)) == hash(Point({"dense": (8, 4), "a": 2}))
    assert space.index({"a": 2, "dense": [8, 4]}) == 2
    assert space != Space({"a": [1, 2]})


@pytest.mark.parametrize("index", [-1, 2, 10**30])
def test_no_such_cell(index):
    with pytest.raises(IndexError, match="of a space of 2"):
        Space({"a": [1, 2]}).at(index)


@pytest.mark.parametrize(
    "point", [{}, {"a": 3}, {"a": 1, "b": 1}, {"a": True}, {"a": 2}, {"a": 1, "z": 1}, {"b": 1}]
)
def test_not_a_point(point):
    space = Space({"a": [1, 2], "b": [1]}, when={"b": {"a": 2}})
    with pytest.raises(ValueError, match="not a point of the space"):
        space.index(point)


@pytest.mark.parametrize(
    ("grid", "when", "message"),
    [
        ({"a": []}, {}, "grid.a: has no candidates"),
        ({"a": [1, 1.0]}, {}, r"grid\.a\[1\]: 1.0 is listed twice; grid\.a\[0\] is the same"),
        ({"n": {"x": {"p": 1}, "y": {"p": 1}}}, {}, "grid.n.y: sets the same values as 'x'"),
        ({"p": [1], "n": {"x": {"p": 1}}}, {}, "grid.n: sets p, which 'p' sets too"),
        ({"a": [1]}, {"b": {"a": 1}}, "when.b: the grid has no 'b'"),
        ({"a": [1]}, {"a": {}}, "when.a: has no condition"),
        ({"a": [1], "bb": [1]}, {"a": {"bbb": 1}}, r"when\.a\.bbb: unknown key\. Did you mean 'bb'"),
        ({"a": [1], "b": [1, 2]}, {"a": {"b": [1, 3]}}, "when.a.b: 3 matches nothing: b is 1, 2"),
        ({"a": [1], "b": [1]}, {"a": {"b": True}}, "when.a.b: true matches nothing"),
        ({"a": [1], "b": [1]}, {"a": {"b": []}}, "when.a.b: has no value"),
        ({"a": [1], "b": [1]}, {"a": {"b": 1}, "b": {"a": 1}}, "when: circular conditions: a, b"),
        ({"a": [1]}, {"a": {"a": 1}}, "when: circular conditions: a"),
        ({"n": {"x": {"p": 1}}}, {"n": {"p": 1}}, "when: circular conditions: n"),
    ],
)
def test_what_is_no_space(grid, when, message):
    with pytest.raises(ConfigError, match=message):
        Space(grid, when)


def test_too_many_parts():
    grid = {name: [0, 1] for name in "abcdefghijklmnopqrstuvwxyz"}
    when = {name.upper(): {name: 1} for name in grid}
    with pytest.raises(ConfigError, match="over 100,000 parts"):
        Space({**grid, **{name: [0] for name in when}}, when)
