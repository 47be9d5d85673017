"""The results of a grid file: its runs, found by their settings, and the comparison with reported figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lab.config import Claim, Grid, Point, Reported, Selection, as_text
from lab.errors import ConfigError
from lab.report.claims import JudgedClaim, judge
from lab.report.repeats import by_cell
from lab.report.settings import changes, in_words, params_of
from lab.report.trials import dimension_columns, ranked, trial_frame
from lab.tracking.tags import Tag

__all__ = ["Comparison", "GridResults", "grid_results"]

_RANKED_BY = "test_accuracy"  # as in the reports


@dataclass(frozen=True)
class Comparison:
    """One entry of the grid's `reported` compared with the results here.

    `cells` are the cells that it selects, the best on the test split first; `runs` is the number of their runs, and
    `as_reported` the number of those that ended with the reported outcome.
    """

    reported: Reported
    cells: pd.DataFrame
    runs: int
    as_reported: int


@dataclass(frozen=True)
class GridResults:
    """The results of a grid's cells.

    `runs` has the newest run of every cell and seed (the newest that finished, if any did), as from `Tracker.runs`, in
    the order of the cells and all with the same settings; `expected` has the params that the file gives each of them,
    by run id; `cells` has the columns of `leaderboard` for cells, ranked by test accuracy; `claims` are those of the
    grid, judged. `left_out` is the number of runs of these cells with other settings, and `other` these settings in
    words.
    """

    grid: Grid
    runs: pd.DataFrame
    expected: Mapping[str, Mapping[str, str]]
    cells: pd.DataFrame
    comparisons: tuple[Comparison, ...]
    claims: tuple[JudgedClaim, ...] = ()
    left_out: int = 0
    other: str = ""

    @property
    def has_finished(self) -> bool:
        """Whether any of the runs has finished."""
        return bool((self.runs["status"] == "FINISHED").any())

    @property
    def monitor(self) -> str:
        """The metric that selected the weights of each trial."""
        return next(iter(self.expected.values()))["monitor"]

    @property
    def descending(self) -> bool:
        """Whether the highest value of this metric is the best."""
        return next(iter(self.expected.values()))["mode"] == "max"


def grid_results(grid: Grid, runs: pd.DataFrame) -> GridResults | None:
    """Return the results of `grid` among `runs`, or None if no run belongs to one of its cells.

    A run belongs to the cell that has the same values in the grid's dimensions; all else may differ, so that runs with
    `--set epochs=3` are found too. Runs with different settings are not mixed in one table: those with the file's
    settings count or, if none of these finished, those with the settings of the newest that did.

    Args:
        grid: the grid file.
        runs: the runs of its study, from `Tracker.runs`.
    """
    points = _points(grid)
    numbers = _numbers(grid, points, runs)
    every = runs.assign(point=numbers)[numbers.notna()]
    if every.empty:
        return None
    different = _changes(every, points)
    alike = _of_one_kind(every, different)
    runs = _newest(every[alike])
    found = points.loc[runs["point"]]
    return GridResults(
        grid=grid,
        runs=runs.drop(columns="point"),
        expected=dict(zip(runs["run_id"], found["params"], strict=True)),
        cells=_cells(grid, runs),
        comparisons=tuple(_compare(grid, points, runs, entry) for entry in grid.reported),
        claims=tuple(_judge(grid, points, runs, claim) for claim in grid.claims),
        left_out=int((~alike).sum()),
        other=in_words(found for found, kept in zip(different, alike, strict=True) if not kept),
    )


def _points(grid: Grid) -> pd.DataFrame:
    """Return the points of the grid's trials: `point`, `cell` (its hash) and the `params` that its runs log."""
    rows = []
    for point in grid.space:
        if grid.excluded(point):
            continue
        try:
            config = grid.config(point)
        except ConfigError:  # never trained; `lab plan` says why
            continue
        chosen = {name: as_text(value) for name, value in point.items()}
        rows.append((point, config.cell_hash, {**chosen, **config.as_params()}))
    return pd.DataFrame(rows, columns=["point", "cell", "params"])


def _numbers(grid: Grid, points: pd.DataFrame, runs: pd.DataFrame) -> pd.Series[float]:
    """Return the number of each run's point, NaN if it has none."""
    names = [dimension.name for dimension in grid.space.dimensions]
    keys = {
        tuple(params.get(name) for name in names): number
        for number, params in reversed([*points["params"].items()])
    }
    columns = runs.reindex(columns=[f"params.{name}" for name in names])
    rows = columns.astype(object).where(columns.notna(), None).itertuples(index=False, name=None)
    return pd.Series([keys.get(row) for row in rows] if names else 0.0, index=runs.index, dtype="float64")


def _changes(runs: pd.DataFrame, points: pd.DataFrame) -> list[dict[str, str]]:
    """Return the settings in which each run differs from the file; another seed is a repeat."""
    cells = points.loc[runs["point"], "params"]
    return [
        changes(params_of(run) | {"seed": cell["seed"]}, cell)
        for run, cell in zip(runs.to_dict("records"), cells, strict=True)
    ]


def _of_one_kind(runs: pd.DataFrame, different: Sequence[dict[str, str]]) -> npt.NDArray[np.bool_]:
    """Return which of `runs` to report: those with nothing `different`, or with the same changes as the newest."""
    order = runs.assign(finished=runs["status"] == "FINISHED", at=range(len(runs)))
    order = order.sort_values(["finished", "start_time"], ascending=False, kind="stable")
    known = [different[at] for at in order["at"][order["finished"] == order["finished"].iloc[0]]]
    reported = {} if {} in known else known[0]
    return np.array([found == reported for found in different])


def _newest(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one run for each point and seed, in their order: the newest that finished, or the newest if none did."""
    seeds = pd.to_numeric(runs.get("params.seed", pd.Series(0, index=runs.index)))
    order = runs.assign(finished=runs["status"] == "FINISHED", seed=seeds).sort_values(
        ["finished", "start_time"], ascending=False, kind="stable"
    )
    newest = order.drop_duplicates(["point", "seed"]).sort_values(["point", "seed"], kind="stable")
    return newest.drop(columns=["finished", "seed"])


def _cells(grid: Grid, runs: pd.DataFrame) -> pd.DataFrame:
    varied = [dimension.name for dimension in grid.space.dimensions]
    trials = ranked(trial_frame(runs, varied, _RANKED_BY), _RANKED_BY, descending=True)
    cells = by_cell(trials, [*dimension_columns(runs, varied, _RANKED_BY).values()], of=_RANKED_BY)
    cells["name"] = cells["name"].replace("", grid.name)  # if only the seed varies
    return ranked(cells, _RANKED_BY, descending=True)


def _compare(grid: Grid, points: pd.DataFrame, runs: pd.DataFrame, entry: Reported) -> Comparison:
    numbers = _selected(grid, points, entry)
    chosen = runs[runs["point"].isin(numbers)]
    outcomes = chosen.get(f"tags.{Tag.OUTCOME}", pd.Series(dtype="object"))
    return Comparison(
        entry,
        cells=_cells(grid, chosen) if len(chosen) else pd.DataFrame(),
        runs=len(chosen),
        as_reported=int((outcomes == entry.outcome).sum()),
    )


def _judge(grid: Grid, points: pd.DataFrame, runs: pd.DataFrame, claim: Claim) -> JudgedClaim:
    def chosen(selection: Selection) -> pd.DataFrame:
        return runs[runs["point"].isin(_selected(grid, points, selection))]

    return judge(claim, grid, chosen, lambda of: _cells(grid, of))


def _selected(grid: Grid, points: pd.DataFrame, entry: Selection) -> Collection[int]:
    """Return the numbers of the points that `entry` selects; if several are one trial, that of the trained one."""
    trained = points.groupby("cell", sort=False)["cell"].transform(lambda cell: cell.index[0])

    def selects(point: Point) -> bool:
        return entry.matches(grid.space, point)

    return set(trained[points["point"].map(selects).astype(bool)])
