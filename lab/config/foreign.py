"""Sweep files of other tools: recognising the tool, and what a grid file calls the same things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lab.config.yaml import scalar

__all__ = ["MEANT_BY", "recognised"]

#: The keys that describe a range or choices in other tools, and the keys that lab uses instead.
MEANT_BY: Final[Mapping[str, str]] = {
    **dict.fromkeys(("min", "minimum", "min_value", "minValue", "lower", "start", "from"), "low"),
    **dict.fromkeys(("max", "maximum", "max_value", "maxValue", "upper", "stop", "end", "to"), "high"),
    **dict.fromkeys(("values", "_value", "options", "categories", "list"), "choices"),
    **dict.fromkeys(("q", "increment"), "step"),
    **dict.fromkeys(("distribution", "sampling", "scale", "scaling_type", "log_scale"), "log"),
}

_RANGE: Final = "{low, high}"
_WORDS: Final[Mapping[str, str]] = {  # shared by most of them: a key, or a key with one of its values
    "parameters": "grid (every combination) or search.space (a sampler chooses)",
    "params": "grid (every combination) or search.space (a sampler chooses)",
    "hyperparameters": "grid (every combination) or search.space (a sampler chooses)",
    "search_space": "search.space",
    "searchSpace": "search.space",
    "values": "a list",
    "value": "the value alone, under base",
    "min": "low",
    "max": "high",
    "min_value": "low",
    "max_value": "high",
    "distribution: log_uniform_values": "log: true",
    "distribution: log_uniform": "log: true",
    "distribution: log-uniform": "log: true",
    "sampling: log": "log: true",
    "metric": "base.monitor",
    "objective": "base.monitor, or search.objectives",
    "direction": "base.mode",
    "directions": "search.objectives",
    "sampler": "search.sampler",
    "pruner": "search.pruner",
    "study_name": "name",
    "n_trials": "budget.trials",
    "max_trials": "budget.trials",
    "timeout": "budget.seconds",
    "n_jobs": "--workers",
    "storage": "--storage",
    "program": "nothing, because lab trains its own nets",
    "command": "nothing, because lab trains its own nets",
}


@dataclass(frozen=True)
class _Tool:
    """A tool, the sets of keys that each identify its files, and its own terms for what most tools call alike."""

    name: str
    outer: tuple[frozenset[str], ...] = ()  # at the top
    inner: tuple[frozenset[str], ...] = ()  # anywhere
    words: Mapping[str, str] = field(default_factory=dict)

    def made(self, outer: set[str], inner: set[str]) -> bool:
        """Return whether a file with these keys belongs to the tool."""
        return any(keys <= outer for keys in self.outer) or any(keys <= inner for keys in self.inner)


def _any(*keys: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(alternative.split()) for alternative in keys)


_TOOLS: Final = (
    _Tool(
        "Hydra",
        outer=_any("hydra", "hydra/sweeper", "hydra/launcher", "defaults"),
        words={
            "defaults": "base",
            "sweeper": "search",
            "params": "search.space: choice(a, b) as [a, b], interval(a, b) as {low: a, high: b}",
        },
    ),
    _Tool("Kubeflow Katib", outer=_any("apiVersion spec"), words={"feasibleSpace": _RANGE, "list": "a list"}),
    _Tool(
        "Comet",
        outer=_any("algorithm spec parameters", "algorithm spec"),
        words={"algorithm": "search.sampler"},
    ),
    _Tool(
        "Weights & Biases",
        outer=_any(
            "parameters method", "parameters metric", "parameters program", "parameters early_terminate"
        ),
        words={
            "method: grid": "grid",
            "method: random": "search.sampler: random",
            "method: bayes": "search.sampler: tpe",
            "early_terminate": "search.pruner",
            "run_cap": "budget.trials",
        },
    ),
    _Tool(
        "NNI",
        outer=_any("searchSpace", "searchSpaceFile", "searchSpacePath", "trialCommand", "trialConcurrency"),
        inner=_any("_type _value"),
        words={
            "_type: choice": "a list",
            "_type: uniform": _RANGE,
            "_type: loguniform": "{low, high, log: true}",
            "tuner": "search.sampler",
            "assessor": "search.pruner",
            "maxTrialNumber": "budget.trials",
            "trialConcurrency": "--workers",
        },
    ),
    _Tool(
        "Guild AI",
        outer=_any("operations", "flags", "model operations"),
        inner=_any("flags-import", "flags main", "operations model"),
        words={
            "flags": "grid, or search.space",
            "optimizer": "search.sampler",
            "max-trials": "budget.trials",
        },
    ),
    _Tool(
        "Determined AI",
        outer=_any("hyperparameters searcher"),
        words={
            "minval": "low",
            "maxval": "high",
            "vals": "a list",
            "searcher": "search.sampler and search.pruner",
            "entrypoint": "nothing, because lab trains its own nets",
        },
    ),
    _Tool("Polyaxon", outer=_any("matrix"), words={"matrix": "search"}),
    _Tool("Azure ML", outer=_any("sampling_algorithm"), words={"sampling_algorithm": "search.sampler"}),
    _Tool(
        "Ray Tune",
        outer=_any("num_samples", "param_space", "tune_config", "search_alg", "resources_per_trial"),
        inner=_any("grid_search", "num_samples"),
        words={
            "param_space": "grid, or search.space",
            "config": "grid, or search.space",
            "grid_search": "a list, in grid",
            "search_alg": "search.sampler",
            "scheduler": "search.pruner",
            "num_samples": "budget.trials",
        },
    ),
    _Tool(
        "KerasTuner",
        outer=_any(
            *("hyperparameters tuner", "hyperparameters max_trials", "hyperparameters objective"),
            *("executions_per_trial", "max_trials objective", "space values", "tuner max_trials"),
        ),
        inner=_any("class_name min_value", "executions_per_trial"),
        words={
            "tuner": "search.sampler",
            "space": "search.space",
            "executions_per_trial": "repeats, in a grid",
        },
    ),
    _Tool(
        "Optuna",
        outer=_any("study_name", "n_trials", "study", "direction", "directions", "search_space sampler"),
        inner=_any("suggest_float", "suggest_int", "suggest_categorical", "n_trials"),
        words={"suggest_float": _RANGE, "suggest_int": _RANGE, "suggest_categorical": "a list"},
    ),
    _Tool(
        "scikit-learn",
        outer=_any("param_grid", "param_distributions"),
        words={"param_grid": "grid", "param_distributions": "search.space", "scoring": "base.monitor"},
    ),
    _Tool(
        "another tool",
        outer=_any("parameters", "params", "hyperparameters", "hparams", "search_space", "sweep", "sweeper"),
    ),
)

_OURS: Final = frozenset({"base", "grid", "search"})


def recognised(value: Any) -> str | None:
    """Return one line that names the tool whose sweep this is and translates its keys; None if it is no tool's.

    Args:
        value: the content of a document that is not a grid file.
    """
    outer = set(value) if isinstance(value, dict) else set()
    said = {key for mapping in _mappings(value) for key in mapping}
    tool = None if outer & _OURS else next((tool for tool in _TOOLS if tool.made(outer, said)), None)
    if tool is None:
        return None
    words = {**_WORDS, **tool.words}
    same = [f"{theirs} -> {ours}" for theirs, ours in words.items() if _says(value, theirs)]
    return (
        f"looks like a sweep file of {tool.name}, which lab does not read. The same in a grid file:"
        f" {'; '.join(same) or 'base, grid and search'}. README.md explains one line by line"
    )


def _says(value: Any, words: str) -> bool:
    key, colon, text = words.partition(": ")
    wanted = scalar(text)
    return any(key in mapping and (not colon or mapping[key] == wanted) for mapping in _mappings(value))


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping within `value`."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _mappings(item)
