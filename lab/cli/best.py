"""`lab best`: what won."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from lab.cli.console import terminal
from lab.cli.messages import missing_of, shown_address, unknown_study
from lab.cli.options import all_option, store_options, stores_from
from lab.errors import StudyError
from lab.wording import counted

if TYPE_CHECKING:
    import pandas as pd

    from lab.engines import Stores

__all__ = ["best", "read_leaderboard", "tell_left_out"]


@click.command(
    short_help="Show the leaderboard of a study.",
    epilog="""\b
Examples:
  lab best quickstart
  lab best quickstart --metric test_accuracy --top 3
  lab best quickstart --each                (repeats of a cell as a row each)
  lab best quickstart --all                 (trials of earlier files and other --set too)
  lab best quickstart --format csv > leaderboard.csv""",
)
@click.argument("study")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Most trials to show.")
@click.option("--metric", default="best_value", show_default=True, help="Metric to rank by.")
@click.option("--each", is_flag=True, help="Show every trial, not the mean of a cell's repeats.")
@all_option
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@store_options
def best(
    study: str,
    top: int,
    metric: str,
    each: bool,
    everything: bool,
    form: str,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Show the leaderboard of STUDY, and how to load the best model.

    It has the cells of the grid file that was swept or submitted last, with its --set. Where these are repeated under
    several seeds they are ranked by their means, with 95 % intervals.
    """
    stores = stores_from(tracking_uri, storage)
    frame = read_leaderboard(
        study, stores, metric, top=top, repeats="each" if each else "mean", everything=everything
    )
    if form == "csv":
        click.echo(frame.to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(frame.to_json(orient="records", indent=2))
    else:
        if frame.empty:
            click.echo(_nothing(frame, study, stores))
        else:
            _print(frame, study, stores.tracking_uri)
        _print_missing(frame, study, stores)
    tell_left_out(frame, f"lab best {study}", err=form != "table")


def read_leaderboard(
    study: str,
    stores: Stores,
    metric: str,
    *,
    top: int | None = None,
    repeats: Literal["mean", "each"] = "mean",
    everything: bool = False,
) -> pd.DataFrame:
    """Return the leaderboard of `study`, of `everything` or of its newest file: see `lab.report.leaderboard`.

    Raises:
        StudyError: there is no such study, or none of its trials has such a metric.
    """
    from lab.report import leaderboard
    from lab.study import database_exists, find_queue, run_ids
    from lab.tracking import connect

    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    experiment = tracker.find_experiment(study) if database_exists(stores.tracking_uri) else None
    if experiment is None:
        raise StudyError(unknown_study(study, stores.storage))
    queue = find_queue(stores.storage, study)
    frame = leaderboard(
        tracker,
        experiment,
        study=study,
        metric=metric,
        top=top,
        repeats=repeats,
        of="all" if everything else "newest",
        named=None if queue is None else run_ids(queue),
    )
    if not frame.empty and frame[metric].isna().all():
        raise StudyError(
            f"No trial of {study} has a metric '{metric}' yet; it can be best_value or any metric of a run"
        )
    return frame


def _nothing(frame: pd.DataFrame, study: str, stores: Stores) -> str:
    """Return why a leaderboard is empty."""
    if _deleted(study, stores):
        return f"No trial of {study} has a run any more"
    newest = " with the settings of its newest file" if frame.attrs["left_out"] else ""
    return f"No trial of {study}{newest} has begun yet"


def tell_left_out(frame: pd.DataFrame, command: str, *, err: bool = False) -> None:
    """Say which trials of the study `frame` leaves out; on stderr where a program reads what it has."""
    count, other = frame.attrs.get("left_out", 0), frame.attrs.get("other", "")
    if count:
        settings = f" ({other})" if other else ""
        click.echo(
            f"Without {counted(count, 'trial')} of earlier files or other settings{settings}: {command} --all",
            err=err,
        )


def _deleted(study: str, stores: Stores) -> int:
    """Return how many cells of a study were trained, and have no run any more."""
    from lab.study import find_queue

    queue = find_queue(stores.storage, study)
    states = queue.states(missing_of(queue, stores)) if queue else {}
    return sum(state == "deleted" for state in states.values())


def _print_missing(frame: pd.DataFrame, study: str, stores: Stores) -> None:
    """Say which runs no trial has, and which trials have no run."""
    orphans, deleted = frame.attrs.get("orphans", 0), _deleted(study, stores)
    if orphans:
        click.echo(
            f"Left out: {counted(orphans, 'run')} that no trial of the study names, as a deleted study of this name"
            " leaves them"
        )
    if deleted:
        click.echo(
            f"Left out: {counted(deleted, 'cell')} with a deleted run; `lab retry {study} --deleted` trains"
            " such cells again"
        )


def _print(frame: pd.DataFrame, study: str, tracking_uri: str) -> None:
    from lab.report import render

    terminal().print(render(frame, title=study))
    with_model = frame[~frame["outcome"].isin(["failed", "killed"]) & frame["outcome"].notna()]
    if with_model.empty:
        return
    click.echo("Load the best:")
    click.echo(f"  mlflow.set_tracking_uri('{shown_address(tracking_uri)}')")
    click.echo(f"  model = mlflow.pytorch.load_model('runs:/{with_model['run_id'].iloc[0]}/model')")
    click.echo(
        "  logits = model(images)  # float32 [B, C, H, W] in 0..1; it predicts as it is, without .eval()"
    )
