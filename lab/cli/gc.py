"""`lab gc`: frees what nobody needs any more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from lab.cli.console import terminal
from lab.cli.options import store_options, stores_from
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines import Stores
    from lab.upkeep import Garbage

__all__ = ["gc"]


@click.command(
    short_help="Free the space of deleted runs and old checkpoints.",
    epilog="""\b
Examples:
  lab gc                            (a dry run: what would go, and how much it is)
  lab gc --delete
  lab gc --older-than 30 --study quickstart --study mnist_lr
  lab gc --older-than 0 --delete    (at once, whatever its age)

What goes, once it is older than --older-than days:

\b
  - all artifacts and models of runs that were deleted in MLflow. Their records stay, so that `mlflow runs restore`
    still brings params and metrics back; `mlflow gc` removes these for good. Delete a run in the MLflow UI, or with
    `mlflow runs delete --run-id RUN_ID`. Runs that a registered model came from are left alone.
  - checkpoints/last.pt and checkpoints/spare.pt of finished and pruned runs, which nothing goes on from.
    best.pt stays: transfer learning (`init_from`) begins with it.
  - folders in .lab/checkpoints whose trial is done or whose run was deleted.

What can be continued is never touched: waiting, running, failed and cancelled trials, killed and failed runs. Stopping
it half way does no harm; the same command goes on.""",
)
@click.option("--delete", is_flag=True, help="Delete it; without this it is only listed.")
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    metavar="DAYS",
    help="Only what is so old: counted from a run's end, and from when a local checkpoint was written.",
)
@click.option(
    "--study",
    "studies",
    multiple=True,
    metavar="NAME",
    help="Only of this study. May be given several times.",
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@store_options
def gc(
    delete: bool,
    days: float,
    studies: tuple[str, ...],
    form: str,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Remove artifacts of deleted runs and old checkpoints, with a dry run first.

    Without --delete nothing is changed.
    """
    stores = stores_from(tracking_uri, storage)
    found = _find(stores, days, studies)
    if form == "table" and found:
        terminal().print(_table(found))
    if delete:
        _remove(found, stores)
    files, size = sum(each.files for each in found), sum(each.size for each in found)
    if form == "json":
        pieces = [each.as_dict() for each in found]
        click.echo(json.dumps({"deleted": delete, "files": files, "size": size, "garbage": pieces}, indent=2))
    elif not found:
        click.echo(f"Nothing to free that is older than {days:g} days")
    elif delete:
        click.echo(f"Freed {decimal(size)}: {counted(files, 'file')}")
    else:
        click.echo(
            f"{counted(files, 'file')}, {decimal(size)}. Nothing was deleted:"
            " `lab gc --delete`, with the same options, does it"
        )


def _find(stores: Stores, days: float, studies: Sequence[str]) -> list[Garbage]:
    with _bar("looking at runs") as bar:
        from lab.upkeep import find_garbage  # seconds of imports

        task = bar.tasks[0].id

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        strange: list[str] = []
        found = list(
            find_garbage(
                stores,
                days=days,
                studies=studies,
                on_progress=show,
                on_strange=lambda run, place: strange.append(place),
            )
        )
    if strange:
        click.echo(_left_alone(strange, stores), err=True)
    return found


def _left_alone(places: Sequence[str], stores: Stores) -> str:
    runs = "1 run" if len(places) == 1 else f"{len(places):,} runs"
    return (
        f"Left alone: the artifacts of {runs}, such as {places[0]}. They do not lie in {stores.artifact_dir}, so they "
        "may be another project's"
    )


def _remove(found: Sequence[Garbage], stores: Stores) -> None:
    from lab.upkeep import remove

    freed = 0
    with _bar("deleting") as bar:
        task = bar.tasks[0].id
        bar.update(task, total=sum(each.size for each in found))
        try:
            for each in found:
                remove(each, stores)
                freed += each.size
                bar.update(task, completed=freed)
        except BaseException:
            click.echo(f"Freed {decimal(freed)} before it was stopped; the same command goes on", err=True)
            raise


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        bar.add_task(what, total=None)
        yield bar


def _table(found: Sequence[Garbage]) -> Table:
    table = Table(title="What may go", title_justify="left")
    for name in ("kind", "where", "run", "study"):
        table.add_column(name, overflow="fold")
    for name in ("files", "size"):
        table.add_column(name, justify="right")
    for each in found:
        texts = (each.kind, each.where, each.run, each.study, f"{each.files:,}", decimal(each.size))
        table.add_row(*map(Text, texts))
    return table
