"""`lab plan`: what a grid would do, before anything is spent."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lab.cli.console import terminal
from lab.cli.live import unverified
from lab.cli.messages import data_lines, missing_of
from lab.cli.options import (
    only_option,
    overrides_option,
    parse_only,
    parse_overrides,
    store_options,
    stores_from,
)
from lab.cli.search import describe_search, search_table
from lab.config import TrialConfig, as_text, load_grid, load_needs, reaches_needs
from lab.errors import ConfigError
from lab.wording import counted

if TYPE_CHECKING:
    from lab.config import Grid
    from lab.study import PlannedCell, PlanSummary

__all__ = ["plan"]

_ROWS = 200  # of the table, unless --limit says otherwise


@click.command(
    short_help="Show every cell of a grid before anything is spent.",
    epilog="""\b
Examples:
  lab plan grids/quickstart.yaml
  lab plan grids/quickstart.yaml --format json | jq '.[] | select(.feasible) | .params'
  lab plan grids/cifar10_models.yaml --set data_dir=photos --format csv > plan.csv""",
)
@click.argument("grid", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"Most cells to show.  [default: {_ROWS} in a table]"
)
@only_option
@overrides_option
@store_options
def plan(
    grid: Path,
    form: str,
    limit: int | None,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Show every cell of GRID: its values, size, whether it is feasible or why not, and whether it is done.

    Where the study is there already, the last line says how many cells are new to it, known, and left behind.
    Of a search: its space, sampler, pruner, objectives and budget, and how its trials stand.
    """
    from lab.engines.stores import connected
    from lab.study import Earlier, check_search, compare, feasible_cells, find_queue
    from lab.study import plan as plan_cells

    loaded = load_grid(grid, parse_overrides(overrides), parse_only(only))
    stores = stores_from(tracking_uri, storage)
    queue = find_queue(stores.storage, loaded.name)
    states = queue.states(missing_of(queue, stores)) if queue else {}
    if loaded.search is not None:
        check_search(loaded)
        with suppress(ConfigError):  # no point makes a trial: a sweep says why
            _print_data((cell.config for cell in feasible_cells(loaded)), err=form != "table")
        counts = Counter[str](states.values())
        if form == "json":
            click.echo(json.dumps(describe_search(loaded, loaded.search, counts), indent=2))
        else:
            terminal().print(search_table(loaded, loaded.search, counts))
            _print_needs(loaded)
        return
    earlier = Earlier(queue, lambda: connected(stores)) if queue else None
    cells = plan_cells(loaded, states, earlier)
    if form == "table":
        shown = list(islice(cells, limit or _ROWS))
        _print_data(cell.config for cell in shown if cell.config is not None)
        _print_table(shown, loaded.name, loaded.space.size)
        if queue is not None:  # a changed base is a new set of cells: it costs all of them again
            compared = compare(chain(shown, cells), states)
            terminal().print(_comparison(compared, loaded.name, partial=loaded.only is not None))
        if earlier is not None and earlier.unverified:
            terminal().print(unverified(earlier.unverified))
        _print_needs(loaded)
        return
    first = list(islice(cells, 1))
    _print_data((cell.config for cell in first if cell.config is not None), err=True)
    (_print_csv if form == "csv" else _print_json)(islice(chain(first, cells), limit))


def _print_data(configs: Iterable[TrialConfig], *, err: bool = False) -> None:
    """Say once for all cells of the same data what an image folder is read as."""
    from lab.data import data_notes

    known = set()
    for config in configs:
        fields = (config.data_dir, config.image_size, config.skip_unreadable, config.classes)
        data = (config.dataset, *fields, config.val_fraction, config.test_fraction)
        if data not in known:
            known.add(data)
            for line in data_lines(data_notes(config)):
                click.echo(line, err=err)


def _print_needs(grid: Grid) -> None:
    """Print which studies are trained first, and which values of `--set` hold for them."""
    needed = load_needs(grid)
    for other in needed:
        how = f"with {_listed(other.overrides)}" if other.overrides else "as its file says"
        click.echo(f"Needs {other.name} ({counted(other.space.size, 'cell')}), which is trained first, {how}")
    alone = {name: value for name, value in grid.overrides.items() if not reaches_needs(name)}
    if needed and alone:
        click.echo(f"For {grid.name} alone: {_listed(alone)}")


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={as_text(value)}" for name, value in values.items())


def _comparison(compared: PlanSummary, name: str, *, partial: bool) -> str:
    """Return what a sweep of the grid would mean to the study that is there."""
    known = f"{compared.known:,} known ({compared.done:,} done)"
    if compared.deleted:
        known = (
            f"{compared.known:,} known ({compared.done:,} done, {compared.deleted:,} deleted in MLflow: "
            f"`lab retry {name} --deleted` trains them again)"
        )
    parts = [counted(compared.new, "cell is new", "cells are new"), known]
    if not partial:  # --only leaves out what the file still names
        parts.append(f"{compared.left:,} left behind: of other settings, or no longer in the file")
    text = f"In the study '{name}' {', '.join(parts)}"
    if compared.stale:
        text += (
            f"\nThe images have changed since {compared.stale:,} of these cells were trained: they are stale, and a"
            " sweep trains them again on the images that are there now"
        )
    elif compared.new and compared.left and not compared.known and not partial:
        text += "\nNone of its cells is known. If `base` was changed on purpose, another `name` keeps the two apart"
    return text


def _print_table(shown: Sequence[PlannedCell], name: str, size: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{name}: {counted(size, 'cell')}", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for heading in ("cell", "values", "params", "mult-adds", "state"):
        table.add_column(heading, justify="right" if heading in ("cell", "params", "mult-adds") else "left")
    for cell in shown:
        params = f"{cell.summary.params:,}" if cell.summary else "–"
        mult_adds = f"{cell.summary.mult_adds / 1e6:,.2f} M" if cell.summary else "–"
        state = (
            Text(cell.state)
            if cell.feasible
            else Text(cell.reason, style="red" if cell.invalid else "yellow")
        )
        table.add_row(str(cell.index), Text(cell.label), params, mult_adds, state)
    console = terminal()
    console.print(table)
    feasible = [cell for cell in shown if cell.feasible]
    done = sum(cell.state == "complete" for cell in feasible)
    console.print(
        f"{len(feasible):,} feasible, {done:,} of them done, {len(shown) - len(feasible):,} left out"
    )
    if size > len(shown):
        left = counted(size - len(shown), "more cell is", "more cells are")
        console.print(f"{left} not shown; --limit or --format csv shows them")


def _row(cell: PlannedCell) -> dict[str, Any]:
    return {
        "index": cell.index,
        "label": cell.label,
        "feasible": cell.feasible,
        "reason": cell.reason,
        "state": cell.state,
        "params": cell.summary.params if cell.summary else None,
        "trainable_params": cell.summary.trainable_params if cell.summary else None,
        "mult_adds": cell.summary.mult_adds if cell.summary else None,
        "cell_hash": cell.config.cell_hash if cell.config else None,
    }


def _print_csv(cells: Iterable[PlannedCell]) -> None:
    writer = None
    for cell in cells:
        row = {**_row(cell), **(cell.config.as_params() if cell.config else {})}
        if writer is None:
            names = dict.fromkeys([*_row(cell), *TrialConfig.model_fields])
            writer = csv.DictWriter(sys.stdout, list(names))
            writer.writeheader()
        writer.writerow(row)


def _print_json(cells: Iterable[PlannedCell]) -> None:
    """Print a list, cell by cell as they are planned: a million do not fit in memory."""
    separator = "["
    for cell in cells:
        config = cell.config.model_dump(mode="json") if cell.config else dict(cell.point)
        click.echo(f"{separator}\n  {json.dumps({**_row(cell), 'config': config})}", nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")
