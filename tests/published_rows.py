"""A page of results made again from the rows beside it, without the runs."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pandas as pd

from lab.config import Grid, Point, as_text
from lab.report import grid_results, results_document
from lab.report.rows import METRICS

__all__ = ["tables", "tables_of_rows"]


def tables(document: str, name: str) -> list[str]:
    """Return the lines of tables that `document` has in the section of the study `name`, and of its claims."""
    section = document.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    claims = [line for line in document.splitlines() if f" [{name}](#{name}): " in line]
    generated = section.partition("### All cells")
    ranking = generated[2].split("\n\n")[:3]  # a comment may have tables of its own
    return claims + [
        line for part in (generated[0], *ranking) for line in part.splitlines() if line.startswith("|")
    ]


def tables_of_rows(grid: Grid, csv: str) -> list[str]:
    """Return the same of the page that the rows of `grid` make."""
    document = results_document([(grid, grid_results(grid, runs_of(grid, csv)))], {}, "lab results")
    return tables(document, grid.name)


def runs_of(grid: Grid, csv: str) -> pd.DataFrame:
    """Return the runs of which `csv` has the rows, as far as they can be told, as from `Tracker.runs`."""
    rows = pd.read_csv(io.StringIO(csv), dtype="str", keep_default_na=False).replace("", None)
    points = {_key(grid, _params(grid, point)): point for point in grid.space}
    runs = []
    for number, row in enumerate(rows.to_dict("records")):
        point = points[_key(grid, row)]
        params = _params(grid, point) | {"seed": row["seed"]}
        started = pd.Timestamp(row["started"], tz="UTC")
        runs.append(
            {"run_id": str(number), "name": grid.label(point), "status": "FINISHED", "start_time": started}
            | {"end_time": started, "tags.lab.outcome": row["outcome"]}
            | {f"params.{name}": value for name, value in params.items()}
            | {
                f"metrics.{name}": float(row[name])
                for name in row
                if (name in METRICS or name.startswith("test_")) and row[name] is not None
            }
        )
    return pd.DataFrame(runs)


def _params(grid: Grid, point: Point) -> dict[str, str]:
    """Return what a run at `point` logs; of a dimension that does not apply there, the setting's default."""
    return {**{name: as_text(value) for name, value in point.items()}, **grid.config(point).as_params()}


def _key(grid: Grid, values: Mapping[str, str | None]) -> tuple[str | None, ...]:
    return tuple(values.get(dimension.name) for dimension in grid.space.dimensions)
