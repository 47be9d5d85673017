"""`lab best`: what won."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lab.cli.console import terminal
from lab.cli.messages import unknown_study
from lab.cli.options import store_options, stores_from
from lab.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from lab.engines import Stores

__all__ = ["best"]


@click.command(
    short_help="Show the leaderboard of a study.",
    epilog="""\b
Examples:
  lab best quickstart
  lab best quickstart --metric test_accuracy --top 3
  lab best quickstart --format csv > leaderboard.csv""",
)
@click.argument("study")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Most trials to show.")
@click.option("--metric", default="best_value", show_default=True, help="Metric to rank by.")
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@store_options
def best(study: str, top: int, metric: str, form: str, tracking_uri: str | None, storage: str | None) -> None:
    """Show the leaderboard of STUDY, and how to load the best model."""
    frame = _leaderboard(study, top, metric, stores_from(tracking_uri, storage))
    if form == "csv":
        click.echo(frame.to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(frame.to_json(orient="records", indent=2))
    elif frame.empty:
        click.echo(f"No trial of {study} has begun yet")
    else:
        _print(frame, study, stores_from(tracking_uri, storage).tracking_uri)


def _leaderboard(study: str, top: int, metric: str, stores: Stores) -> pd.DataFrame:
    from lab.report import leaderboard
    from lab.study import database_exists
    from lab.tracking import connect

    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    experiment = tracker.find_experiment(study) if database_exists(stores.tracking_uri) else None
    if experiment is None:
        raise StudyError(unknown_study(study, stores.storage))
    frame = leaderboard(tracker, experiment, study=study, metric=metric, top=top)
    if not frame.empty and frame[metric].isna().all():
        raise StudyError(
            f"No trial of {study} has a metric '{metric}' yet; it can be best_value or any metric of a run"
        )
    return frame


def _print(frame: pd.DataFrame, study: str, tracking_uri: str) -> None:
    from lab.report import render
    from lab.study import display_url

    terminal().print(render(frame, title=study))
    with_model = frame[~frame["outcome"].isin(["failed", "killed"]) & frame["outcome"].notna()]
    if with_model.empty:
        return
    click.echo("Load the best:")
    click.echo(f"  mlflow.set_tracking_uri('{display_url(tracking_uri)}')")
    click.echo(f"  model = mlflow.pytorch.load_model('runs:/{with_model['run_id'].iloc[0]}/model')")
