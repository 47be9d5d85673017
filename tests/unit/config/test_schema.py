"""The JSON schema of grid files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lab.config import grid_schema, parse_grid, parse_yaml
from lab.errors import ConfigError

ROOT = Path(__file__).parents[3]
GRIDS = [*sorted((ROOT / "grids").glob("*.yaml")), *sorted((ROOT / "examples").glob("*.yaml"))]


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = grid_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _faults(validator: Any, text: str) -> list[str]:
    return [error.message for error in validator.iter_errors(parse_yaml(text, "a.yaml").value)]


@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_it_accepts_every_grid_file(file: Path, validator: Any) -> None:
    assert not _faults(validator, file.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "base: {patience: none, augment: [rotation]}",
        "base: {classes: [1, no]}",
        "base: {filters: [6, 16]}",
        "base: {dense: none, augment: null, classes: None, use: none, metrics: , patience: 'Null'}",
        "search: {space: {lr: {low: 0.1, high: 1, step: }}}\nbudget: {trials: 3}",
        "grid: {dense: [none, [5]], augment: [null, [rotation]]}",
        "name:\ndescription:\nbase:\ngrid:\nsearch:\nwhen:\nexclude:\nconstraints:\nrepeats:\npatience:\nbudget:\n"
        "max_retries:\nmax_failures:\ngpu_memory:\npriority:\nnotify:\nuse:\nneeds:\nreport:\nreported:\nclaims:",
        "base: {freeze: 2, init_from: 'best:pretrain'}\ngrid: {lr: 0.1}",
        "base: {}\nepochs: 3\npatience: none\nrepeats: [1, 5]\ngpu_memory: 6GB",
        "search:\n  space: {lr: {low: 0.1, high: 1, log: true}, momentum: {low: 0, high: 0.9, when: {optimizer: sgd}},"
        "optimizer: {choices: [sgd, adam]}}\nbudget: {trials: 3}",
        "grid: {net: {plain: {}, other: {norm: batch}}}\nwhen: {net: {optimizer: adam}}",
    ],
)
def test_it_refuses_nothing_that_lab_reads(text: str, validator: Any) -> None:
    parse_grid(text, "a.yaml")
    assert not _faults(validator, text)


@pytest.mark.parametrize(
    "text",
    [
        "grids: {}",
        "base: {learning_rate: 1}",
        "base: {lr: -1}",
        "base: {depth: a}",
        "base: {norm: layer}",
        "base: {augment: rotation}",
        "base: {lr: none}",
        "grid: {lr: [0.1, -3]}",
        "grid: {opt: [sgd]}",
        "repeats: 0",
        "repeats: []",
        "repeats: 20_000",
        "epochs:",
        "search: {space: {lr: {low: 1, hi: 2}}}",
        "search: {space: {opt: [sgd]}}",
        "budget: {trials: 0}",
    ],
)
def test_what_it_refuses_is_wrong(text: str, validator: Any) -> None:
    assert _faults(validator, text)
    with pytest.raises(ConfigError, match=r"a\.yaml"):
        parse_grid(text, "a.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "use: my_nets\nbase: {alpha: 1}",
        "base: {optimizer: 'torch.optim:RAdam', eps: 1}",
        "base: {metrics: ['my_metrics:Weighted']}\ngrid: {omega: [1, 2]}",
        "grid: {optimizer: [sgd, 'torch.optim:RAdam'], eps: [1, 2]}",
    ],
)
def test_plugins_may_have_further_settings(text: str, validator: Any) -> None:
    assert not _faults(validator, text)


def test_the_published_one_is_up_to_date() -> None:
    published = (ROOT / "docs" / "grid.schema.json").read_text()
    assert json.loads(published) == grid_schema(), "run: lab schema > docs/grid.schema.json"


@pytest.mark.parametrize("file", GRIDS, ids=lambda file: file.stem)
def test_every_grid_file_names_it(file: Path) -> None:
    assert file.read_text().startswith("# yaml-language-server: $schema=../docs/grid.schema.json\n")
