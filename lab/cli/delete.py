"""`lab delete`: runs that are not wanted."""

from __future__ import annotations

import shlex

import click

from lab import engines
from lab.cli.options import cell_option, run_or_study_argument, store_options, stores_from
from lab.wording import counted

__all__ = ["delete"]

_MOST = 10  # runs that are named


@click.command(
    short_help="Delete a run, or the runs of cells; they can be restored until `lab gc`.",
    epilog="""\b
Examples:
  lab delete 3f2c                               (a run, by the start of its id)
  lab delete quickstart --cell lr=0.1           (all runs with this value)
  lab delete quickstart --cell optimizer=sgd,adamw --cell depth=2
  lab delete quickstart --cell 81d0 --yes       (a cell by the start of its hash, without asking)
  lab retry quickstart --deleted                (tries the cells again, in new runs)""",
)
@run_or_study_argument
@cell_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@store_options
def delete(
    name: str, cells: tuple[str, ...], yes: bool, tracking_uri: str | None, storage: str | None
) -> None:
    """Delete the run NAME, or the runs of cells of the study NAME.

    They vanish from leaderboards and from the MLflow UI, which can restore them from its list of deleted runs until
    `lab gc` has freed their space. Their cells count as deleted: a sweep leaves them alone, and `lab retry STUDY
    --deleted` tries them again. Trials that are being trained, or wait to be continued, are refused.
    """
    stores = stores_from(tracking_uri, storage)
    found = engines.find_runs_to_delete(name, stores, cells)
    runs = counted(len(found.runs), "run")
    if not yes:
        for run_id, label in list(found.runs.items())[:_MOST]:
            click.echo(f"  {run_id}  {label}")
        if len(found.runs) > _MOST:
            click.echo(f"  … and {len(found.runs) - _MOST:,} more")
        click.confirm(f"Delete {runs}?", abort=True)
    found.carry_out()
    address = shlex.quote(engines.public_address(stores.tracking_uri))
    restore = f"MLFLOW_TRACKING_URI={address} mlflow runs restore --run-id {next(iter(found.runs))}"
    click.echo(f"Deleted {runs}. To restore one, before `lab gc`: {restore}")
    if found.study:
        click.echo(f"Try the cells again with: lab retry {found.study} --deleted")
