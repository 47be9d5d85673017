"""`lab best`: what won."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from lab.cli.console import terminal
from lab.cli.messages import missing_of, shown_address, unknown_study
from lab.cli.options import store_options, stores_from
from lab.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from lab.engines import Stores

__all__ = ["best", "read_leaderboard"]


@click.command(
    short_help="Show the leaderboard of a study.",
    epilog="""\b
Examples:
  lab best quickstart
  lab best quickstart --metric test_accuracy --top 3
  lab best quickstart --each                (repeats of a cell as a row each)
  lab best quickstart --format csv > leaderboard.csv""",
)
@click.argument("study")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Most trials to show.")
@click.option("--metric", default="best_value", show_default=True, help="Metric to rank by.")
@click.option("--each", is_flag=True, help="Show every trial, not the mean of a cell's repeats.")
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@store_options
def best(
    study: str, top: int, metric: str, each: bool, form: str, tracking_uri: str | None, storage: str | None
) -> None:
    """Show the leaderboard of STUDY, and how to load the best model.

    Where its cells are repeated under several seeds they are ranked by their means, with 95 % intervals.
    """
    stores = stores_from(tracking_uri, storage)
    frame = read_leaderboard(study, stores, metric, top=top, repeats="each" if each else "mean")
    if form == "csv":
        click.echo(frame.to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(frame.to_json(orient="records", indent=2))
    else:
        if frame.empty:
            click.echo(
                f"No trial of {study} has {'a run any more' if _deleted(study, stores) else 'begun yet'}"
            )
        else:
            _print(frame, study, stores.tracking_uri)
        _print_left_out(frame, study, stores)


def read_leaderboard(
    study: str,
    stores: Stores,
    metric: str,
    *,
    top: int | None = None,
    repeats: Literal["mean", "each"] = "mean",
) -> pd.DataFrame:
    """Return the leaderboard of `study`: see `lab.report.leaderboard`.

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
        named=None if queue is None else run_ids(queue),
    )
    if not frame.empty and frame[metric].isna().all():
        raise StudyError(
            f"No trial of {study} has a metric '{metric}' yet; it can be best_value or any metric of a run"
        )
    return frame


def _deleted(study: str, stores: Stores) -> int:
    """Return how many cells of a study were trained, and have no run any more."""
    from lab.study import cell_states, find_queue

    queue = find_queue(stores.storage, study)
    states = cell_states(queue, missing_of(queue, stores)) if queue else {}
    return list(states.values()).count("deleted")


def _print_left_out(frame: pd.DataFrame, study: str, stores: Stores) -> None:
    """Say what a leaderboard does not show."""
    orphans, deleted = frame.attrs.get("left_out", 0), _deleted(study, stores)
    if orphans:
        click.echo(
            f"Left out: runs that no trial of the study names ({orphans:,}), as a study of this name that was deleted "
            "leaves them"
        )
    if deleted:
        click.echo(
            f"Left out: cells whose runs were deleted ({deleted:,}); `lab retry {study} --deleted` trains them again"
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
