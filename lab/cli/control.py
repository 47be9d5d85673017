"""`lab cancel`, `lab resume`, `lab retry` and `lab stop`: control over studies, whoever trains them."""

from __future__ import annotations

import click

from lab import engines, study
from lab.cli.options import cell_option, store_options, stores_from, study_argument
from lab.wording import counted

__all__ = ["cancel", "resume", "retry", "stop"]


@click.command(
    short_help="Stop a study on all machines; it can be resumed.",
    epilog="""\b
Examples:
  lab cancel quickstart
  lab resume quickstart         (continues where it stopped)""",
)
@study_argument()
@store_options
def cancel(name: str, tracking_uri: str | None, storage: str | None) -> None:
    """Start no more trials of STUDY, and stop those that are running, on any machine.

    Running trials checkpoint at their next step, within seconds, and return to the queue. Completed trials are kept.
    """
    stores = stores_from(tracking_uri, storage)
    counts = engines.cancel(study.existing_study(stores.storage, name), stores)
    if not counts.changed and not counts.running:
        click.echo(f"{name}: nothing was waiting or running; no cells can be added until `lab resume {name}`")
        return
    waiting = counted(counts.changed, "waiting trial")
    click.echo(f"{name}: {waiting} cancelled, {counted(counts.running, 'running trial')} stopping")
    click.echo(f"Resume it with: lab resume {name}")


@click.command(
    short_help="Resume a cancelled or interrupted study.",
    epilog="""\b
Examples:
  lab resume quickstart
  lab resume quickstart && lab worker --study quickstart --idle-exit 60""",
)
@study_argument()
@store_options
def resume(name: str, tracking_uri: str | None, storage: str | None) -> None:
    """Undo `lab cancel` of STUDY, and requeue trials whose worker died.

    They resume in the same runs from their checkpoints, once a worker or a sweep trains them.
    """
    stores = stores_from(tracking_uri, storage)
    counts = engines.resume(study.existing_study(stores.storage, name), stores)
    requeued = f", {counts.changed:,} of them requeued" if counts.changed else ""
    click.echo(f"{name}: {counted(counts.waiting, 'trial')} waiting{requeued}; {counts.running:,} running")
    if counts.waiting:
        click.echo(f"Train it with: lab worker --study {name}")


@click.command(
    short_help="Retry failed cells of a study.",
    epilog="""\b
Examples:
  lab retry mnist_lr                          (all failed cells)
  lab retry mnist_lr --cell lr=0.1            (failed cells with this value)
  lab retry mnist_lr --cell 3f2c9a            (one cell, by the start of its hash)
  lab retry mnist_lr --deleted                (cells whose runs were deleted in MLflow)
A cell's hash is the tag lab.cell of its run, and a column of `lab plan GRID --format csv`.""",
)
@study_argument()
@click.option("--failed", is_flag=True, help="All failed cells: the default without --cell.")
@click.option("--deleted", is_flag=True, help="Cells whose runs were deleted in MLflow, in new runs.")
@cell_option
@store_options
def retry(
    name: str,
    failed: bool,
    deleted: bool,
    cells: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Requeue failed cells of STUDY with their retry count reset; they keep their runs.

    With --deleted, requeue cells that were trained and whose runs were deleted afterwards.
    """
    if failed and cells:
        raise click.UsageError(
            "--failed means all failed cells, --cell one of them; give only one of the two"
        )
    if failed and deleted:
        raise click.UsageError("--failed and --deleted select different cells; give only one of the two")
    stores = stores_from(tracking_uri, storage)
    counts = engines.retry(study.existing_study(stores.storage, name), stores, cells, deleted=deleted)
    changed = counted(counts.changed, f"{'deleted' if deleted else 'failed'} cell")
    click.echo(f"{name}: {changed} requeued, {counts.waiting:,} waiting in total")
    if counts.changed:
        click.echo(f"Train it with: lab worker --study {name}")


@click.command(
    short_help="End some cells of a study for good; the others go on.",
    epilog="""\b
Examples:
  lab stop quickstart --cell lr=0.1
  lab stop quickstart --cell optimizer=sgd --cell depth=3      (cells with both)
  lab stop quickstart --cell 3f2c9a                            (one cell, by the start of its hash)""",
)
@study_argument()
@cell_option
@store_options
def stop(name: str, cells: tuple[str, ...], tracking_uri: str | None, storage: str | None) -> None:
    """End the trials of some cells of STUDY for good, on any machine; workers go on with the other cells.

    Their outcome is `pruned`, as if a pruner had stopped them. Waiting trials end at once. Running ones end after their
    current epoch; their best weights are kept, but not tested. No sweep tries them again.
    """
    if not cells:
        raise click.UsageError("Say which cells with --cell. `lab cancel STUDY` stops the whole study.")
    stores = stores_from(tracking_uri, storage)
    stopped = engines.stop(study.existing_study(stores.storage, name), stores, cells)
    parts = [f"{counted(stopped.ended, 'waiting trial')} ended"] if stopped.ended else []
    if stopped.ending:
        parts.append(f"{counted(stopped.ending, 'running trial')} ending after this epoch")
    if stopped.over:
        parts.append(f"{counted(stopped.over, 'trial')} over before")
    click.echo(f"{name}: {', '.join(parts)}")
