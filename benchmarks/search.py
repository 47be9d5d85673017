"""How few epochs searches need to find what a grid finds: methods replayed on the curves of cells trained in full."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from benchmarks.common import judged, show
from benchmarks.search_tables import GRIDS, Table, read_table
from lab.config import Method
from lab.study.record import TrialRecord
from lab.study.search.methods import build_pruner
from lab.study.search.rungs import RungsPruner
from lab.study.search.surrogate import choose

__all__ = ["run"]

_RATIO, _SHARE = (
    5,
    0.9,
)  # fewer epochs than the grid; of the seeds, whose regret is at most one standard error
_AUTO: Final = "sampler auto"
_Method = Callable[["_Search", int], None]


def run(folder: Path, seeds: int, tables: int) -> None:
    """Train the tables that `folder` does not have, replay every method on each with all seeds, and print what came.

    Args:
        folder: of the tables.
        seeds: of each method on each table.
        tables: of each grid, each of cells with another seed.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in GRIDS:
        found = [read_table(name, seed, folder) for seed in range(tables)]
        rows = [_row(method, found, seeds) for method in _METHODS]
        cells, images = len(found[0].points), found[0].images
        epochs = statistics.mean(_whole(table) for table in found)
        show(
            f"Searching {name}: {cells} cells, at most {found[0].epochs} epochs each",
            ["", "fewer epochs", "least", "regret, points", "standard errors", "seeds within one", "target"],
            rows,
            f"Against the whole grid with patience, {epochs:,.0f} epochs, and its best validation accuracy, "
            f"{statistics.mean(_best(table) for table in found):.2%} of {images} images. "
            f"{seeds} seeds on each of {tables} tables.",
        )


class _Search:
    """A search replayed on a table: which cells it has trained, and for how many epochs."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.epochs: dict[int, int] = {}  # of each cell, in the order in which they were begun
        self.again = 0  # epochs of cells that were trained once more

    @property
    def spent(self) -> int:
        return sum(self.epochs.values()) + self.again

    @property
    def best(self) -> float:
        return max(self.value(cell) for cell in self.epochs)

    def value(self, cell: int) -> float:
        return max(self.table.curves[cell][: self.epochs[cell]])

    def train(self, cell: int, until: int) -> bool:
        """Train or continue a cell, and return whether it has ended."""
        self.epochs[cell] = min(until, len(self.table.curves[cell]))
        return self.epochs[cell] == len(self.table.curves[cell])

    def records(self) -> list[TrialRecord]:
        """Return what a study would have of the cells."""
        return [self._record(number, cell) for number, cell in enumerate(self.epochs)]

    def _record(self, number: int, cell: int) -> TrialRecord:
        curve = self.table.curves[cell][: self.epochs[cell]]
        ended = len(curve) == len(self.table.curves[cell])
        trial = create_trial(
            state=TrialState.COMPLETE if ended else TrialState.PRUNED,
            value=max(curve),
            intermediate_values=dict(enumerate(curve, start=1)),
            user_attrs={"lab:cell": f"slot-{number}", "lab:label": str(cell)},
        )
        trial.number = number
        return TrialRecord(trial)


def _with_rungs(search: _Search, seed: int, *, share: float = 1.0, model: bool = False) -> None:
    """Begin a share of the cells, which a model chooses or chance; then let the best go on, rung by rung."""
    rng = np.random.default_rng(seed)
    points, distributions = _params(search.table), _distributions(search.table)
    while len(search.epochs) < math.ceil(share * len(points)):
        left = [cell for cell in range(len(points)) if cell not in search.epochs]
        results = [(points[cell], search.value(cell)) for cell in search.epochs] if model else []
        search.train(left[choose([points[cell] for cell in left], results, distributions, rng)], 1)
    pruner, factor = RungsPruner(), 3
    while promoted := pruner.promotable(search.records(), maximize=True):
        for record in promoted:
            search.train(int(record.label), factor * record.epoch)


def _with_optuna(
    search: _Search, seed: int, *, trials: int | None = None, pruner: str = "none", tpe: bool = False
) -> None:
    """Train as many cells as Optuna's sampler chooses (all in random order if None), each until its pruner ends it."""
    table = search.table
    sampler: BaseSampler = TPESampler(seed=seed) if tpe else RandomSampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=build_pruner(Method(pruner)))
    points, distributions = _params(table), _distributions(table)
    order = [int(cell) for cell in np.random.default_rng(seed).permutation(len(points))]
    for number in range(trials or len(points)):
        if not tpe:
            study.enqueue_trial(points[order[number]])
        trial = study.ask(distributions)
        cell = points.index(trial.params)
        search.again += search.epochs.get(cell, 0)
        for epoch, value in enumerate(table.curves[cell], start=1):
            ended = search.train(cell, epoch)
            trial.report(value, epoch)
            if not ended and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, max(table.curves[cell]))


_METHODS: Final[Mapping[str, _Method]] = {
    "grid, successive_halving": partial(_with_optuna, pruner="successive_halving"),
    "tpe, 16 trials": partial(_with_optuna, trials=16, tpe=True),
    "tpe, 24 trials, successive_halving": partial(
        _with_optuna, trials=24, pruner="successive_halving", tpe=True
    ),
    "grid, rungs": _with_rungs,
    "half at random, rungs": partial(_with_rungs, share=0.5),
    f"{_AUTO} (half by a model, rungs)": partial(_with_rungs, share=0.5, model=True),
    "a third by a model, rungs": partial(_with_rungs, share=1 / 3, model=True),
}


def _row(name: str, tables: list[Table], seeds: int) -> list[str]:
    ratios, regrets, errors = [], [], []
    for table in tables:
        for seed in range(seeds):
            search = _Search(table)
            _METHODS[name](search, seed)
            ratios.append(_whole(table) / search.spent)
            regrets.append(_best(table) - search.best)
            errors.append(regrets[-1] / _standard_error(table))
    share = statistics.mean(error <= 1 for error in errors)
    ratio = statistics.mean(ratios)
    met = ratio >= _RATIO and share >= _SHARE
    return [
        name,
        f"{ratio:.1f}x",
        f"{min(ratios):.1f}x",
        f"{100 * statistics.mean(regrets):.2f}",
        f"{statistics.mean(errors):.2f}",
        f"{share:.0%}",
        judged(met, f"≥ {_RATIO}x, ≥ {_SHARE:.0%}") if name.startswith(_AUTO) else "",
    ]


def _whole(table: Table) -> int:
    return sum(map(len, table.curves))


def _best(table: Table) -> float:
    return max(map(max, table.curves))


def _standard_error(table: Table) -> float:
    """Return that of the best validation accuracy, a share of so many images."""
    best = _best(table)
    return math.sqrt(best * (1 - best) / table.images)


def _params(table: Table) -> list[dict[str, Any]]:
    return [dict(point) for point in table.points]


def _distributions(table: Table) -> dict[str, BaseDistribution]:
    names = table.points[0]
    return {
        name: CategoricalDistribution(tuple(dict.fromkeys(point[name] for point in table.points)))
        for name in names
    }
