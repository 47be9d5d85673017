"""`lab cancel`, `lab resume` and `lab retry`: studies that others train, stopped and let go on."""

from __future__ import annotations

import click

from lab import study as studies
from lab.cli.options import store_options, stores_from
from lab.wording import counted

__all__ = ["cancel", "resume", "retry"]


@click.command(
    short_help="Stop a study, whoever trains it; it can be resumed.",
    epilog="""\b
Examples:
  lab cancel quickstart
  lab resume quickstart         (goes on where it was)""",
)
@click.argument("study")
@store_options
def cancel(study: str, tracking_uri: str | None, storage: str | None) -> None:
    """Take what waits in STUDY out of the queue, and stop what runs of it, on whatever machine.

    Running trials checkpoint at their next step, within seconds, and wait with the others. What is finished stays.
    """
    from lab.engines import cancel as cancel_study

    stores = stores_from(tracking_uri, storage)
    counts = cancel_study(studies.existing_study(stores.storage, study), stores)
    if not counts.changed and not counts.running:
        click.echo(
            f"{study}: nothing was waiting or running; it takes no new cells until `lab resume {study}`"
        )
        return
    stopping = counted(counts.running, "running one is", "running ones are")
    click.echo(f"{study}: {counted(counts.changed, 'waiting trial')} taken out, {stopping} stopping")
    click.echo(f"Let it go on with: lab resume {study}")


@click.command(
    short_help="Let a cancelled or interrupted study go on.",
    epilog="""\b
Examples:
  lab resume quickstart
  lab resume quickstart && lab worker --study quickstart --idle-exit 60""",
)
@click.argument("study")
@store_options
def resume(study: str, tracking_uri: str | None, storage: str | None) -> None:
    """Undo `lab cancel` of STUDY, and put back the trials whose worker is gone.

    They continue in the same runs from their checkpoints, when a worker or a sweep trains them.
    """
    from lab.engines import resume as resume_study

    stores = stores_from(tracking_uri, storage)
    counts = resume_study(studies.existing_study(stores.storage, study), stores)
    put_back = f", {counts.changed:,} of them put back" if counts.changed else ""
    wait = counted(counts.waiting, "trial waits", "trials wait")
    click.echo(f"{study}: {wait}{put_back}; {counts.running:,} running")
    if counts.waiting:
        click.echo(f"Train it with: lab worker --study {study}")


@click.command(
    short_help="Try failed cells of a study again.",
    epilog="""\b
Examples:
  lab retry mnist_lr                          (every failed cell)
  lab retry mnist_lr --cell 3f2c9a            (the beginning of a cell's hash; may be given several times)
  lab retry mnist_lr --deleted                (every cell whose run was deleted in MLflow)
A cell's hash is in the run's tag lab.cell, and in `lab plan GRID --format csv`.""",
)
@click.argument("study")
@click.option("--failed", is_flag=True, help="Every failed cell; so it is where no --cell is given.")
@click.option("--deleted", is_flag=True, help="Those whose runs were deleted in MLflow; they begin new ones.")
@click.option("--cell", "cells", multiple=True, metavar="HASH", help="Only this cell.")
@store_options
def retry(
    study: str,
    failed: bool,
    deleted: bool,
    cells: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Queue failed cells of STUDY again, with all their retries before them; they keep their runs.

    With --deleted, queue those cells again that were trained and whose runs somebody has deleted since.
    """
    from lab.engines import retry as retry_study

    if failed and cells:
        raise click.UsageError("--failed is every failed cell and --cell is one; give one of the two")
    if failed and deleted:
        raise click.UsageError("--failed and --deleted are different cells; give one of the two")
    stores = stores_from(tracking_uri, storage)
    counts = retry_study(studies.existing_study(stores.storage, study), stores, cells, deleted=deleted)
    changed = counted(counts.changed, f"{'deleted' if deleted else 'failed'} cell")
    click.echo(f"{study}: {changed} queued again, {counts.waiting:,} waiting in all")
    if counts.changed:
        click.echo(f"Train it with: lab worker --study {study}")
