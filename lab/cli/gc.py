"""`lab gc`: frees disk space that is no longer needed."""

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

from lab import upkeep
from lab.cli.console import terminal
from lab.cli.options import format_option, store_options, stores_from
from lab.wording import counted

if TYPE_CHECKING:
    from lab.engines import Stores
    from lab.upkeep import Garbage

__all__ = ["gc"]


@click.command(
    short_help="Free disk space used by deleted runs and old checkpoints.",
    epilog="""\b
Examples:
  lab gc                            (dry run: list what would be deleted, and its size)
  lab gc --delete
  lab gc --older-than 30 --study quickstart --study mnist_lr
  lab gc --older-than 0 --delete    (delete now, regardless of age)

What is deleted once it is older than --older-than days:

\b
  - all artifacts and models of runs that were deleted in MLflow. The runs' records stay, so `mlflow runs restore`
    still brings back params and metrics; `mlflow gc` removes these for good. Delete a run in the MLflow UI, or with
    `lab delete RUN_ID`. Runs that a registered model came from are left alone.
  - checkpoints/last.pt, spare.pt and spare2.pt of finished and pruned runs, which nothing resumes.
    best.pt stays: transfer learning (`init_from`) starts from it.
  - folders in .lab/checkpoints whose trial is finished or whose run was deleted.
  - decoded images in the data cache (LAB_CACHE_DIR) that no trial has read since; not with --study. They are decoded
    again when they are needed.

Anything that can be resumed is left alone: waiting, running, failed and cancelled trials, killed and failed runs.
Interrupting lab gc does no harm; run the same command again to finish.""",
)
@click.option("--delete", is_flag=True, help="Delete the files instead of only listing them.")
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    default=7.0,
    show_default=True,
    metavar="DAYS",
    help="Minimum age, counted from the end of a run, or from when a local checkpoint was written or an image read.",
)
@click.option(
    "--study",
    "studies",
    multiple=True,
    metavar="NAME",
    help="Only files of this study. May be repeated.",
)
@format_option("table", "json")
@store_options
def gc(
    delete: bool,
    days: float,
    studies: tuple[str, ...],
    form: str,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Delete the artifacts of deleted runs, old checkpoints and unused decoded images.

    Without --delete, only list them.
    """
    stores = stores_from(tracking_uri, storage)
    found = _find(stores, days, studies)
    if form == "table" and found:
        terminal().print(_table(found))
    if delete:
        _remove(found, stores)
    if form == "json":
        click.echo(json.dumps({"deleted": delete, **upkeep.as_dict(found)}, indent=2))
        return
    files, size = upkeep.total(found)
    if not found:
        click.echo(f"Nothing to delete that is older than {days:g} days")
    elif delete:
        click.echo(f"Freed {decimal(size)}: {counted(files, 'file')}")
    else:
        click.echo(
            f"{counted(files, 'file')}, {decimal(size)}. Nothing was deleted yet: add --delete to do so"
        )


def _find(stores: Stores, days: float, studies: Sequence[str]) -> list[Garbage]:
    with _bar("looking at runs") as bar:
        task = bar.tasks[0].id

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        strange: list[str] = []
        found = list(
            upkeep.find_garbage(
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
    return (
        f"Left alone: the artifacts of {counted(len(places), 'run')}, for example {places[0]}. They are not in "
        f"{stores.artifact_dir}, so they may belong to another project"
    )


def _remove(found: Sequence[Garbage], stores: Stores) -> None:
    with _bar("deleting") as bar:
        task = bar.tasks[0]
        bar.update(task.id, total=upkeep.total(found)[1], completed=0)
        try:
            for each in found:
                upkeep.remove(each, stores)
                bar.advance(task.id, each.size)
        except BaseException:
            freed = decimal(int(task.completed))
            click.echo(f"Freed {freed} before it stopped; run the same command again to finish", err=True)
            raise


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        bar.add_task(what, total=None)
        yield bar


def _table(found: Sequence[Garbage]) -> Table:
    table = Table(title="Can be deleted", title_justify="left")
    for name in ("kind", "where", "run", "study"):
        table.add_column(name, overflow="fold")
    for name in ("files", "size"):
        table.add_column(name, justify="right")
    for each in found:
        texts = (each.kind, each.where, each.run, each.study, f"{each.files:,}", decimal(each.size))
        table.add_row(*map(Text, texts))
    return table
