"""`lab plan`: what a grid would train."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from lab import engines
from lab.cli.console import print_row, terminal
from lab.cli.estimate import estimate_table, estimated
from lab.cli.live import unverified
from lab.cli.messages import data_lines, unclear
from lab.cli.options import (
    format_option,
    grid_from,
    only_option,
    overrides_option,
    store_options,
    stores_from,
)
from lab.cli.plugin_options import use_option
from lab.cli.search import search_table
from lab.config import TrialConfig, as_text, setting_names
from lab.wording import counted

if TYPE_CHECKING:
    from lab.config import Grid
    from lab.engines import GridPlan, SearchPlan, Stores
    from lab.study import PlannedCell, PlanSummary

__all__ = ["plan"]

_ROWS = 200  # of the table, unless --limit is given


@click.command(
    short_help="Show every cell of a grid without training anything.",
    epilog="""\b
Examples:
  lab plan grids/quickstart.yaml
  lab plan grids/quickstart.yaml --estimate --workers 8 --price 2.50
  lab plan grids/quickstart.yaml --format json | jq '.[] | select(.feasible) | .params'
  lab plan grids/cifar10_models.yaml --set data_dir=photos --format csv > plan.csv""",
)
@click.argument("grid", type=click.Path(path_type=Path))
@format_option("table", "csv", "json")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"Maximum number of cells to show.  [default: {_ROWS} in a table, else all]",
)
@click.option(
    "--estimate",
    "with_estimate",
    is_flag=True,
    help="Also estimate how long a sweep would take here, from finished trials of the study or by timing a few "
    "steps of each kind of work; takes seconds. With --format json, print only the estimate.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Number of workers to assume in the estimate.  [default: as many as `lab sweep` starts here]",
)
@click.option(
    "--price",
    type=click.FloatRange(min=0),
    metavar="PER_HOUR",
    help="Price of an hour of a GPU, or of a core where there is no GPU; adds the cost to the estimate.",
)
@only_option
@overrides_option
@use_option
@store_options
def plan(
    grid: Path,
    form: str,
    limit: int | None,
    with_estimate: bool,
    workers: int | None,
    price: float | None,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Show every cell of GRID: its values, its size, whether it is feasible and if not why, and its progress.

    If the study already exists, the last line counts the cells that are new to it, already in it, and in it but no
    longer in GRID. For a search, show its space, sampler, pruner, objectives, budget and the state of its trials.
    """
    _check_estimate(with_estimate, form, workers, price)
    loaded = grid_from(grid, overrides, only)
    stores = stores_from(tracking_uri, storage)
    if with_estimate and form == "json":
        click.echo(json.dumps(estimated(loaded, stores, workers).as_dict(price), indent=2))
        return
    _print_plan(loaded, stores, form, limit)
    if with_estimate:
        terminal().print(estimate_table(loaded, estimated(loaded, stores, workers), price))


def _check_estimate(with_estimate: bool, form: str, workers: int | None, price: float | None) -> None:
    """Refuse options of the estimate without it, and a format that it has not."""
    if not with_estimate and (workers is not None or price is not None):
        name = "--workers" if workers is not None else "--price"
        raise click.UsageError(f"{name} is an option of the estimate; add --estimate")
    if with_estimate and form == "csv":
        raise click.UsageError("--estimate has no CSV format; use --format table or json")


def _print_plan(loaded: Grid, stores: Stores, form: str, limit: int | None) -> None:
    if loaded.search is not None:
        if form == "csv":
            raise click.UsageError("the plan of a search has no CSV format; use --format table or json")
        _print_search(engines.plan_search(loaded, loaded.search, stores), form)
        return
    planned = engines.plan_grid(loaded, stores)
    _print_trouble(planned.trouble)
    if form == "table":
        _print_grid(planned, limit or _ROWS)
        return
    first = list(islice(planned.cells, 1))
    _print_data((cell.config for cell in first if cell.config is not None), err=True)
    (_print_csv if form == "csv" else _print_json)(islice(chain(first, planned.cells), limit))


def _print_search(plan: SearchPlan, form: str) -> None:
    _print_trouble(plan.trouble)
    _print_data(plan.configs(), err=form != "table")
    if form == "json":
        click.echo(json.dumps(plan.as_dict(), indent=2))
    else:
        terminal().print(search_table(plan))
        _print_needs(plan.grid)


def _print_grid(plan: GridPlan, limit: int) -> None:
    grid, shown = plan.grid, list(islice(plan.cells, limit))
    _print_data(cell.config for cell in shown if cell.config is not None)
    _print_table(shown, grid.name, grid.space.size)
    compared = plan.summary(shown)
    if compared is not None:
        terminal().print(_comparison(compared, grid.name, partial=grid.only is not None))
    if plan.unverified:
        terminal().print(unverified(plan.unverified))
    _print_needs(grid)


def _print_trouble(trouble: str) -> None:
    if trouble:
        click.echo(unclear(trouble), err=True)


def _print_data(configs: Iterable[TrialConfig], *, err: bool = False) -> None:
    """Print how the data of the cells is read, once for all cells with the same data."""
    for notes in engines.notes_on_data(configs):
        for line in data_lines(notes):
            click.echo(line, err=err)


def _print_needs(grid: Grid) -> None:
    """Print which studies are trained first, and which values of `--set` apply to them."""
    needs = engines.needs_of(grid)
    for other in needs.grids:
        how = f"with {_listed(other.overrides)}" if other.overrides else "as in its file"
        click.echo(f"Needs {other.name} ({counted(other.space.size, 'cell')}), which is trained first, {how}")
    if needs.own_overrides:
        click.echo(f"For {grid.name} only: {_listed(needs.own_overrides)}")


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={as_text(value)}" for name, value in values.items())


def _comparison(compared: PlanSummary, name: str, *, partial: bool) -> str:
    """Return what a sweep of the grid would mean to its study."""
    known = f"{compared.done:,} complete"
    if compared.deleted:
        known += f", {compared.deleted:,} deleted in MLflow: requeue with `lab retry {name} --deleted`"
    parts = [counted(compared.new, "new cell"), f"{compared.known:,} already in the study ({known})"]
    if compared.left and not partial:  # with --only, the study's other cells may still be in the file
        parts.append(
            f"{compared.left:,} in the study only: with other settings or other code, or no longer in the file"
        )
    text = f"Study '{name}': {', '.join(parts)}"
    if compared.stale:
        cells = counted(compared.stale, "of these cells is", "of these cells are")
        text += f"\n{cells} stale: the images have changed since, so a sweep will train on the images there are now"
    elif compared.new and compared.left and not compared.known and not partial:
        text += (
            "\nNone of the cells is in the study. If you changed `base` or the code of a plug-in on purpose,"
        )
        text += " use another `name` to keep the two apart"
    return text


def _print_table(shown: Sequence[PlannedCell], name: str, size: int) -> None:
    table = Table(
        title=f"{name}: {counted(size, 'cell')}", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for heading in ("cell", "values", "params", "mult-adds", "state"):
        table.add_column(heading, justify="right" if heading in ("cell", "params", "mult-adds") else "left")
    for cell in shown:
        params = f"{cell.summary.params:,}" if cell.summary else "–"
        mult_adds = f"{cell.summary.mult_adds / 1e6:,.2f} M" if cell.summary else "–"
        table.add_row(str(cell.index), Text(cell.label), params, mult_adds, _state(cell))
    console = terminal()
    console.print(table)
    feasible = [cell for cell in shown if cell.feasible]
    done = sum(cell.state == "complete" for cell in feasible)
    which = "Of these, " if size > len(shown) else ""
    excluded = len(shown) - len(feasible)
    console.print(f"{which}{len(feasible):,} feasible ({done:,} complete), {excluded:,} excluded")
    if size > len(shown):
        left = counted(size - len(shown), "more cell")
        console.print(f"{left} not shown; use --limit or --format csv to see them")


def _state(cell: PlannedCell) -> Text:
    if cell.feasible:
        return Text(cell.state)
    return Text(cell.reason, style="red" if cell.invalid else "yellow")


def _print_csv(cells: Iterable[PlannedCell]) -> None:
    columns: list[str] = []
    for cell in cells:
        values = engines.cell_values(cell)
        if not columns:
            columns = list(dict.fromkeys([*values, *setting_names()]))
            print_row(columns)
        row = {**values, **(cell.config.as_params() if cell.config else {})}
        print_row(row.get(column) for column in columns)


def _print_json(cells: Iterable[PlannedCell]) -> None:
    """Print a list, cell by cell as they are planned: a million do not fit in memory."""
    separator = "["
    for cell in cells:
        config = cell.config.model_dump(mode="json") if cell.config else dict(cell.point)
        click.echo(f"{separator}\n  {json.dumps({**engines.cell_values(cell), 'config': config})}", nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")
