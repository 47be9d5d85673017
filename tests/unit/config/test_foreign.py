"""Sweeps of other tools: told apart from grid files with mistakes, and what to write in their place."""

from __future__ import annotations

import pytest

from lab.config import parse_grid
from lab.errors import ConfigError

WANDB = """
program: train.py
method: bayes
metric: {name: val_accuracy, goal: maximize}
parameters:
  lr: {min: 0.0001, max: 0.1, distribution: log_uniform_values}
  optimizer: {values: [adam, sgd]}
"""
HYDRA = """
defaults: [_self_, {override hydra/sweeper: optuna}]
hydra: {sweeper: {n_trials: 20, params: {lr: 'interval(0.001, 0.1)'}}}
lr: 0.1
"""
OPTUNA = (
    "study_name: x\ndirection: maximize\nn_trials: 50\nsearch_space: {lr: {type: float, low: 0.1, high: 1}}"
)
KERAS_TUNER = (
    "tuner: hyperband\nobjective: val_accuracy\nmax_trials: 9\nhyperparameters: {units: {min_value: 32}}"
)
NNI = "searchSpace: {lr: {_type: loguniform, _value: [0.1, 1]}}\ntrialCommand: python t.py\nmaxTrialNumber: 9"
RAY = "my-experiment: {run: PPO, num_samples: 3, config: {lr: {grid_search: [0.1, 0.2]}}}"
GUILD = "- model: m\n  operations: {train: {main: train, flags: {lr: {min: 0.1, max: 1}}}}"


@pytest.mark.parametrize(
    ("text", "tool", "words"),
    [
        (
            WANDB,
            "Weights & Biases",
            ["parameters -> grid", "min -> low", "method: bayes -> search.sampler: tpe"],
        ),
        (WANDB, "Weights & Biases", ["values -> a list", "distribution: log_uniform_values -> log: true"]),
        (HYDRA, "Hydra", ["n_trials -> budget.trials", "interval(a, b) as {low: a, high: b}"]),
        (OPTUNA, "Optuna", ["study_name -> name", "search_space -> search.space"]),
        (KERAS_TUNER, "KerasTuner", ["max_trials -> budget.trials", "min_value -> low"]),
        (NNI, "NNI", ["_type: loguniform -> {low, high, log: true}", "maxTrialNumber -> budget.trials"]),
        (RAY, "Ray Tune", ["grid_search -> a list, in grid"]),
        (GUILD, "Guild AI", ["flags -> grid, or search.space"]),
        ("estimator: x\nparam_grid: {alpha: [1]}", "scikit-learn", ["param_grid -> grid"]),
        ("params: {lr: [1]}", "another tool", ["params -> grid"]),
    ],
)
def test_another_tools_sweep_is_one_line_that_says_what_to_write(
    text: str, tool: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError, match=rf"^s\.yaml: looks like a sweep file of {tool}, which") as caught:
        parse_grid(text, "s.yaml")
    (fault,) = caught.value.faults
    assert "\n" not in fault.message
    assert not [word for word in words if word not in fault.message]


def test_a_grid_file_with_a_foreign_key_is_a_grid_file() -> None:
    with pytest.raises(ConfigError, match=r"^g\.yaml:1: metric: unknown key\. Known: name"):
        parse_grid("metric: x\ngrid: {lr: [0.1]}", "g.yaml")
    with pytest.raises(ConfigError, match=r"^g\.yaml:1: lr: is a setting: put its value under `base`"):
        parse_grid("lr: [0.1]", "g.yaml")
    with pytest.raises(
        ConfigError, match=r"^g\.yaml:1: sampler: belongs under `search`, .* as a setting, under `base`$"
    ):
        parse_grid("sampler: tpe\nsearch: {space: {lr: [0.1, 0.2]}}\nbudget: {trials: 2}", "g.yaml")


def test_other_names_for_the_ends_of_ranges_and_for_choices() -> None:
    text = """
search:
  space:
    lr: {min: 0.001, max: 0.1, distribution: log}
    batch_size: {values: [32, 64]}
    learning_rate: {lower: 1, upper: 2}
    net: {min: {depth: 1}, max: {depth: 3}}
budget: {trials: 3}
"""
    with pytest.raises(ConfigError, match="low") as caught:
        parse_grid(text)
    found = {fault.key: fault.message for fault in caught.value.faults}
    assert found.keys() == {
        *(f"search.space.lr.{key}" for key in ("min", "max", "distribution")),
        "search.space.batch_size.values",
        "search.space.learning_rate",
    }
    assert found["search.space.lr.min"].startswith("unknown key. Did you mean 'low'?")
    assert found["search.space.lr.distribution"].startswith("unknown key. Did you mean 'log: true'?")
    assert found["search.space.batch_size.values"].startswith("choices are a list")
    assert found["search.space.learning_rate"].startswith("unknown setting. Did you mean 'lr'?")


def test_ranges_and_choices_of_a_search_in_a_grid() -> None:
    with pytest.raises(ConfigError, match="a grid takes") as caught:
        parse_grid(
            "grid: {lr: {min: 0.1, max: 1}, width: {values: [8, 9]}, net: {min: {depth: 1}, max: {depth: 2}}}"
        )
    assert [(fault.key, fault.message) for fault in caught.value.faults] == [
        (
            "grid.lr",
            "a grid takes a list of values; a range belongs in search.space, as in {low: 0.01, high: 1}",
        ),
        ("grid.width", "a grid takes the list of values itself, as in width: [8, 9]"),
    ]
