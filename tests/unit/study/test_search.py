"""Samplers and pruners by Optuna's names: each can be built, and every wrong option is told."""

from __future__ import annotations

import importlib.util
import inspect
import re

import pytest
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from lab.config import Method, parse_grid
from lab.errors import ConfigError
from lab.study import PRUNERS, SAMPLERS, check_search
from lab.study.search.methods import build_pruner, build_sampler

NEEDED = {"percentile": {"percentile": 25.0}, "patient": {"patience": 2}}


def check(sampler: str = "tpe", pruner: str = "none", more: str = "") -> None:
    text = (
        f"search:\n  sampler: {sampler}\n  pruner: {pruner}\n  space: {{lr: {{low: 0.1, high: 1.0}}}}\n{more}"
    )
    check_search(parse_grid(f"{text}budget: {{trials: 3}}\n", "s.yaml"))


def test_the_names_are_those_that_were_promised() -> None:
    assert list(SAMPLERS) == ["auto", "grid", "random", "tpe", "gp", "cmaes", "qmc", "nsga2"]
    pruners = ["none", "median", "percentile", "hyperband", "successive_halving", "patient", "rungs"]
    assert list(PRUNERS) == pruners


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_be_built_with_its_seed(name: str) -> None:
    seed = {"seed": 3} if "seed" in SAMPLERS[name].options else {}
    assert seed or name == "grid"
    assert isinstance(build_sampler(Method(name, seed), 0), BaseSampler)
    assert isinstance(build_sampler(Method(name), 0), BaseSampler)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_can_be_built(name: str) -> None:
    assert isinstance(build_pruner(Method(name, NEEDED.get(name, {}))), BasePruner)


@pytest.mark.parametrize("kind", [*SAMPLERS.values(), *PRUNERS.values()])
def test_options_are_parameters_of_the_class(kind) -> None:
    assert kind.options.keys() <= inspect.signature(kind.target).parameters.keys()
    assert set(kind.needed) <= kind.options.keys()


def test_options_that_are_code_are_not_offered() -> None:
    assert "n_startup_trials" in SAMPLERS["tpe"].options
    assert not {"gamma", "weights", "constraints_func"} & SAMPLERS["tpe"].options.keys()
    assert "source_trials" not in SAMPLERS["cmaes"].options
    assert PRUNERS["median"].options.keys() >= {"n_startup_trials", "n_warmup_steps", "interval_steps"}


def test_one_seed_gives_each_trial_its_own_and_always_the_same() -> None:
    def first(trial: int) -> float:
        sampler = build_sampler(Method("random", {"seed": 5}), trial)
        return float(sampler._rng.rng.uniform())

    assert first(0) == first(0) != first(1)


def test_a_patient_pruner_wraps_another() -> None:
    check(pruner="{name: patient, patience: 2, wrapped_pruner: {name: percentile, percentile: 30.0}}")
    check(pruner="{name: patient, patience: 2, wrapped_pruner: median}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sampler": "tpee"},
            "s.yaml:2: search.sampler: Unknown sampler 'tpee'. Did you mean 'tpe'? Known: auto, cmaes, gp",
        ),
        ({"sampler": "TPESampler"}, "Unknown sampler 'TPESampler'. Did you mean 'tpe'?"),
        ({"pruner": "medain"}, "s.yaml:3: search.pruner: Unknown pruner 'medain'. Did you mean 'median'?"),
        (
            {"sampler": "{name: tpe, sede: 1}"},
            "s.yaml:2: search.sampler.sede: tpe has no such option. Did you mean 'seed'?",
        ),
        ({"sampler": "{name: tpe, gamma: 3}"}, "search.sampler.gamma: tpe has no such option."),
        ({"sampler": "{name: tpe, n_startup_trials: x}"}, "n_startup_trials: must be a whole number, but got 'x'"),
        ({"sampler": "{name: tpe, group: 1}"}, "search.sampler.group: must be true or false, but got 1"),
        (
            {"sampler": "{name: nsga2, population_size: 1}"},
            "search.sampler.population_size: `population_size` must be greater",
        ),
        ({"sampler": "{name: qmc, qmc_type: x}"}, "The `qmc_type='x'` is invalid"),
        ({"pruner": "percentile"}, "search.pruner: percentile needs percentile"),
        ({"pruner": "{name: none, seed: 1}"}, "search.pruner.seed: none has no such option. It takes none"),
        ({"pruner": "{name: percentile, percentile: 200.0}"}, "Percentile must be between 0 and 100"),
        ({"pruner": "{name: patient, patience: 2, wrapped_pruner: medan}"}, "wrapped_pruner: Unknown pruner 'medan'"),
        ({"pruner": "{name: rungs, reduction_factor: 1}"}, "reduction_factor must be at least 2, but got 1"),
        (
            {"sampler": "auto", "more": "  objectives: [val_accuracy, params]\n"},
            "s.yaml:2: search.sampler: auto takes one objective; for several, use nsga2, tpe or gp",
        ),
        (
            {"pruner": "median", "more": "  objectives: [val_accuracy, params]\n"},
            "s.yaml:3: search.pruner: a search with several objectives cannot prune",
        ),
    ],
)  # fmt: skip
def test_faults(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        check(**arguments)
    assert all(fault.line for fault in caught.value.faults)


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError, match="Unknown pruner") as caught:
        check("{name: tpe, sede: 1, n_startup_trials: x}", "medain")
    assert len(caught.value.faults) == 3


@pytest.mark.skipif(importlib.util.find_spec("cmaes") is not None, reason="cmaes is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(ConfigError, match="cmaes needs a package that is not installed: pip install cmaes"):
        check("cmaes")


def test_cmaes_takes_one_objective() -> None:
    with pytest.raises(ConfigError, match="cmaes takes one objective"):
        check("cmaes", more="  objectives: [val_accuracy, params]\n")
