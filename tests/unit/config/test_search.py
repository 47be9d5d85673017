"""The search of a grid file: what it means, and every way in which one can be wrong."""

from __future__ import annotations

import pickle
import re
import textwrap

import pytest

import lab.config.search
from lab import registry
from lab.config import Grid, Method, Objective, Range, parse_grid
from lab.config.constraint import parse_constraint
from lab.errors import ConfigError

SPACE = "lr: {low: 0.001, high: 0.1}"


def search_of(text: str) -> Grid:
    return parse_grid(textwrap.dedent(text), "s.yaml")


def with_search(more: str = "", space: str = SPACE, rest: str = "budget: {trials: 3}") -> Grid:
    return parse_grid(f"search:\n  {more or 'sampler: tpe'}\n  space:\n    {space}\n{rest}\n", "s.yaml")


def example() -> str:
    text = lab.config.search.__doc__.split("::\n\n", 1)[1]
    return textwrap.dedent(text)


def test_the_docstrings_example() -> None:
    grid = search_of(example())
    search = grid.search
    assert search is not None
    assert search.sampler == Method("tpe")
    assert search.pruner == Method("median", {"n_warmup_steps": 2})
    assert search.objectives == (Objective("val_accuracy", "maximize"),)
    assert (search.enqueue, search.target) == (({"lr": 0.01, "optimizer": "adam"},), 0.98)
    assert (grid.budget.trials, grid.budget.seconds, grid.budget.epochs) == (50, 600, 500)
    ranges = {dim.name: dim.range for dim in grid.space.dimensions}
    assert ranges["lr"] == Range(0.0001, 0.1, log=True)
    assert ranges["batch_size"] == Range(32, 256, step=32)
    assert ranges["optimizer"] is None
    assert pickle.loads(pickle.dumps(grid)).space == grid.space


def test_a_point_of_it_is_a_config() -> None:
    grid = search_of(example())
    asked: list[str] = []

    def choose(dimension):
        asked.append(dimension.name)
        return {"lr": 0.012345678, "batch_size": 64, "optimizer": "sgd", "momentum": 0.25, "net": "bn"}[
            dimension.name
        ]

    point = grid.space.build(choose)
    config = grid.config(point)
    assert (config.lr, config.batch_size, config.momentum, config.norm) == (0.012345678, 64, 0.25, "batch")
    assert grid.label(point) == "lr=0.01235 batch_size=64 sgd momentum=0.25 bn"
    assert asked == ["lr", "batch_size", "optimizer", "momentum", "net"]
    adam = grid.space.build(lambda dimension: dimension.candidates[0])
    assert "momentum" not in adam


def test_a_condition_before_what_it_looks_at() -> None:
    space = "momentum: {low: 0.0, high: 0.9, when: {optimizer: sgd}}\n    optimizer: [adam, sgd]"
    point = with_search(space=space).space.build(lambda dimension: dimension.candidates[-1])
    assert dict(point) == {"momentum": 0.9, "optimizer": "sgd"}


def test_grid_and_when_count_too() -> None:
    rest = "grid: {optimizer: [adam, sgd]}\nwhen: {momentum: {optimizer: sgd}}\nbudget: {trials: 3}"
    grid = with_search(space="momentum: {low: 0.0, high: 0.9}\n    dense: {choices: [[], [8]]}", rest=rest)
    assert [dim.name for dim in grid.space.dimensions] == ["optimizer", "momentum", "dense"]
    assert grid.space.size == 2 + 2 * 2


def test_numbers_of_a_range() -> None:
    assert Range(32, 256, step=32).holds(64)
    assert not Range(32, 256, step=32).holds(65)
    assert not Range(1, 3).holds(2.0)
    assert not Range(0.0, 1.0).holds(True)
    assert Range(0.0, 1.0, step=0.1).holds(0.1 + 0.2)
    assert Range(2, 2).ends == (2,)
    assert str(Range(0.1, 1.0, log=True)) == "0.1 to 1.0 (log)"


def test_a_value_outside_its_range_is_no_point() -> None:
    grid = with_search()
    assert grid.space.values({"lr": 0.05}) == {"lr": 0.05}
    with pytest.raises(ValueError, match="not a point of the space"):
        grid.space.values({"lr": 0.5})


@pytest.mark.parametrize(
    ("text", "held", "broken"),
    [
        ("params <= 10", 10, 12),
        ("params < 10", 9, 10),
        ("params >= 10", 10, 1),
        ("params == 3", 3, 4),
        ("params != 3", 4, 3),
    ],
)
def test_how_far_a_constraint_is_broken(text: str, held: int, broken: int) -> None:
    constraint = parse_constraint(text)
    assert constraint.excess({"params": held}) <= 0 < constraint.excess({"params": broken})


def test_the_further_within_a_limit_the_less() -> None:
    assert parse_constraint("params <= 10").excess({"params": 4}) == -6
    assert parse_constraint("kernel_size <= 10").excess({"kernel_size": (4, 12)}) == 2
    assert parse_constraint("momentum <= 0.5").excess({"momentum": None}) == 0


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            "lr: {low: 1, high: 0.1}",
            "s.yaml:4: search.space.lr.low: low <= high must hold, but got low=1.0, high=0.1",
        ),
        ("lr: {low: 0.1}", "s.yaml:4: search.space.lr: a range needs high"),
        ("lr: {low: -1, high: 1}", "search.space.lr.low: must be greater than 0, but got -1"),
        ("momentum: {low: 0, high: 1.5}", "search.space.momentum.high: must be less than 1, but got 1.5"),
        (
            "momentum: {low: 0, high: 0.9, log: true}",
            "momentum.log: low > 0 must hold on a log scale, but got low=0.0",
        ),
        ("lr: {low: 0.1, high: 1, log: yes please}", "lr.log: must be true or false, but got 'yes please'"),
        ("lr: {low: 0.1, high: 1, log: true, step: 0.1}", "lr.step: a log scale has no steps"),
        ("lr: {low: 0.1, high: 1, step: 0}", "lr.step: must be a number above 0, but got 0"),
        ("lr: {low: a, high: 1}", "lr.low: must be a number, but got 'a'"),
        ("lr: {low: .nan, high: 1}", "lr.low: must be a number, but got"),
        ("lr: {low: true, high: 1}", "lr.low: must be a number, but got True"),
        ("lr: {low: 0.1, high: 1, hihg: 2}", "lr.hihg: unknown key. Did you mean 'high'?"),
        (
            "batch_size: {low: 1.5, high: 4}",
            "batch_size.low: must be a whole number, because batch_size is one, but got 1.5",
        ),
        (
            "batch_size: {low: 32, high: 250, step: 32}",
            "high: steps of 32 from 32 do not reach 250 exactly; the last one is 224",
        ),
        ("optimizer: {low: 1, high: 2}", "search.space.optimizer: optimizer does not take numbers, so it cannot have"),
        ("optmizer: [adam]", "search.space.optmizer: unknown setting. Did you mean 'optimizer'?"),
        ("optmizer: {low: 1, high: 2}", "search.space.optmizer: unknown setting. Did you mean 'optimizer'?"),
        (
            "optimizer: [adam, sdg]",
            "s.yaml:4: search.space.optimizer[1]: Unknown optimizer 'sdg'. Did you mean 'sgd'?",
        ),
        ("optimizer: {choices: [adam, sdg]}", "search.space.optimizer.choices[1]: Unknown optimizer 'sdg'"),
        (
            "optimizer: {choices: [adam], low: 1}",
            "search.space.optimizer.low: unknown key. Choices have the keys choices and when",
        ),
        ("optimizer: []", "search.space.optimizer: has no candidates"),
        (
            "lr: {low: 0.1, high: 1, when: {optimizr: sgd}}",
            "s.yaml:4: search.space.lr.when.optimizr: unknown key. Did you mean",
        ),
        (
            "lr: {low: 0.1, high: 1, when: {optimizer: sgd}}",
            "search.space.lr.when.optimizer: sgd matches nothing: optimizer is adam",
        ),
        ("lr: {low: 0.1, high: 1, when: sgd}", "search.space.lr.when: must be a mapping, as in {optimizer: sgd}"),
        (
            "lr: {low: 0.1, high: 1, when: {momentum: 0.5}}\n    momentum: {low: 0.0, high: 0.9}",
            "lr.when.momentum: momentum is a range, and a condition can only test choices",
        ),
        ("net: {a: {norm: batch}, b: {nrom: batch}}", "search.space.net.b.nrom: unknown setting. Did you mean 'norm'?"),
        (
            "monitor: [val_accuracy, val_loss]",
            "search.space.monitor: varies monitor; a search compares its trials by one metric",
        ),
        ("fold: [0, 1]", "search.space.fold: varies fold; a search would come to prefer the fold whose images"),
        ("fold: {low: 0, high: 4}", "search.space.fold: varies fold; a search would come to prefer the fold"),
    ],
)  # fmt: skip
def test_faults_of_a_space(space: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        with_search(space=space)
    assert all(fault.line for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("smpler: tpe", "s.yaml:2: search.smpler: unknown key. Did you mean 'sampler'?"),
        ("sampler: 3", "search.sampler: must be a name, or a mapping of a name and options, but got 3"),
        ("sampler: {seed: 1}", "search.sampler: needs a name, as in {name: tpe, seed: 1}"),
        (
            "objectives: [val_acuracy]",
            "search.objectives[0]: unknown objective 'val_acuracy'. Did you mean 'val_accuracy'?",
        ),
        ("objectives: []", "search.objectives: must be a list of metrics"),
        ("objectives: [params]", "a single objective must be the monitored metric, here val_accuracy"),
        ("objectives: [params, params]", "search.objectives: names params twice"),
        (
            "objectives: {params: down, val_accuracy: maximize}",
            "search.objectives.params: must be maximize or minimize, but got 'down'",
        ),
        ("objectives: [params, {val_accuracy: minimize}]", "the direction of the monitored metric is maximize"),
        ("enqueue: [{lr: 1}]", "s.yaml:2: search.enqueue[0].lr: 1.0 is not in the range 0.001 to 0.1"),
        (
            "enqueue: [{lr: 0.01}, {lrr: 0.1}]",
            "search.enqueue[1].lrr: the search does not vary 'lrr'. Did you mean 'lr'? It varies lr",
        ),
        ("enqueue: {lr: 0.1}", "search.enqueue: must be a valid list"),
        ("sampler: grid", "search.space.lr: the sampler grid tries every point, so lr needs a step or a list"),
        ("target: high", "search.target: must be a number, but got 'high'"),
        ("target: 0.9\n  objectives: [val_accuracy, params]", "search.target: is for a single objective"),
    ],
)  # fmt: skip
def test_faults_of_a_search(more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        with_search(more)
    assert all(fault.line for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        ("{low: 0.1, high: 0.01}", "search.space.lr.low: low <= high must hold, but got low=0.1, high=0.01"),
        ("{choices: [0.1, high]}", "search.space.lr.choices[1]: must be a valid number, but got 'high'"),
    ],
)
def test_points_of_a_wrong_dimension_are_not_judged(lr: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        with_search("enqueue: [{lr: 0.5}]", space=f"lr: {lr}")
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("budget", ["{trials: many}", "{trails: 3}", "{trials: 0}", "3"])
def test_a_wrong_budget_is_told_once(budget: str) -> None:
    with pytest.raises(ConfigError, match=r"budget") as caught:
        with_search(rest=f"budget: {budget}")
    assert len(caught.value.faults) == 1
    with pytest.raises(ConfigError, match=r"--set budget\.trials: must be") as caught:
        parse_grid(f"search:\n  space:\n    {SPACE}\n", "s.yaml", {"budget.trials": "many"})
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "budget: a search needs budget.trials"),
        ("budget: {seconds: 3}", "s.yaml:5: budget: a search needs budget.trials"),
        ("budget: {trials: 3}\nrepeats: 3", "s.yaml:6: repeats: a search tries each point once"),
        ("budget: {trials: 3}\ngrid: {lr: [0.1]}", "search.space.lr: the grid varies lr too (line 6)"),
        ("budget: {trials: 3}\nwhen: {lr: {optimizer: adam}}\nsearch: {}", "given twice"),
        ("budget: {trials: 3}\nexclude: [{lr: 0.1}]", "exclude[0].lr: lr is a range, and a condition can only test"),
    ],
)  # fmt: skip
def test_faults_of_the_rest(rest: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        with_search(rest=rest)


@pytest.mark.parametrize(
    ("numbers", "share", "number"),
    [
        (Range(0.01, 1.0, log=True), 0.5, 0.1),
        (Range(0.0, 1.0), 0.25, 0.25),
        (Range(0.0, 0.4, step=0.2), 0.5, 0.2),
        (Range(2, 8, step=2), 0.99, 8),
        (Range(2, 8, step=2), 1.0, 8),
        (Range(4, 64, log=True), 0.5, 16),
        (Range(4, 64, log=True), 1.0, 64),
    ],
)
def test_a_number_part_of_the_way(numbers: Range, share: float, number: float) -> None:
    found = numbers.at(share)
    assert found == pytest.approx(number)
    assert type(found) is type(number)
    assert numbers.holds(found)


def test_auto_tries_half_of_a_finite_space_and_lets_the_best_go_on() -> None:
    space = "{lr: [0.1, 0.2, 0.3], optimizer: [adam, sgd, adamw]}"
    grid = with_search("sampler: auto", space, rest="")
    assert grid.budget.trials == 5
    assert grid.search is not None
    assert grid.search.pruner == Method("rungs")
    assert with_search("sampler: {name: auto, seed: 1}", space).budget.trials == 3
    chosen = with_search("sampler: auto\n  pruner: none", space).search
    assert chosen is not None
    assert chosen.pruner == Method("none")
    with pytest.raises(ConfigError, match=r"a search needs budget\.trials"):
        with_search("sampler: auto", "{lr: {low: 0.1, high: 0.9}}", rest="")


def test_what_only_a_search_has() -> None:
    with pytest.raises(ConfigError, match=r"budget.epochs: is for a search"):
        search_of("grid: {lr: [0.1]}\nbudget: {epochs: 3}")
    with pytest.raises(ConfigError, match=r"budget.epochs: is for a search"):
        search_of("search:\nbudget: {epochs: 3}")
    with pytest.raises(ConfigError, match="search: has nothing to choose"):
        search_of("search: {sampler: tpe}\nbudget: {trials: 3}")


def test_directions_of_several_objectives() -> None:
    grid = with_search("objectives: [val_accuracy, params, {seconds: maximize}]")
    assert grid.search is not None
    assert [str(objective) for objective in grid.search.objectives] == [
        "maximize val_accuracy",
        "minimize params",
        "maximize seconds",
    ]


def test_chosen_metrics_are_objectives() -> None:
    rest = "base: {metrics: [auroc, ece], monitor: val_auroc}\nbudget: {trials: 3}"
    grid = with_search("objectives: [val_auroc, test_ece, params]", rest=rest)
    assert grid.search is not None
    assert [str(objective) for objective in grid.search.objectives] == [
        *("maximize val_auroc", "minimize test_ece", "minimize params")
    ]
    single = with_search("target: 0.99", rest=rest).search
    assert single is not None
    assert [str(objective) for objective in single.objectives] == ["maximize val_auroc"]


@pytest.mark.parametrize("wrong", ["[aurok]", "5"])
def test_wrong_metrics_are_told_once(wrong: str) -> None:
    rest = f"base: {{metrics: {wrong}}}\nbudget: {{trials: 3}}"
    with pytest.raises(ConfigError, match=r"base\.metrics: ") as caught:
        with_search("objectives: [val_accuracy, test_auroc]", rest=rest)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("val_f1", "search.objectives[1]: val_f1 is only computed with metrics: [auroc, f1] in `base`"),
        (
            "test_mine",
            "search.objectives[1]: does not say whether higher is better; give its direction, as in {test_",
        ),
        (
            "test_auroK",
            "search.objectives[1]: unknown objective 'test_auroK'. Did you mean 'test_auroc'? Known: ",
        ),
    ],
)
def test_metrics_that_no_trial_has_are_no_objectives(
    objective: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.metrics, "_entries", dict(registry.metrics._entries))
    chosen = ["auroc"]
    if objective == "test_mine":
        registry.metrics.register("mine", object())
        chosen.append("mine")
    rest = f"base: {{metrics: [{', '.join(chosen)}]}}\nbudget: {{trials: 3}}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        with_search(f"objectives: [val_accuracy, {objective}]", rest=rest)
