"""`lab best`: what won."""

from __future__ import annotations

import click

from lab.cli.options import store_options, stores_from
from lab.errors import StudyError

__all__ = ["best"]


@click.command(
    epilog="""\b
Examples:
  lab best quickstart
  lab best quickstart --metric test_accuracy --top 3
  lab best quickstart --format csv > leaderboard.csv"""
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
    from lab.report import leaderboard
    from lab.tracking import connect

    stores = stores_from(tracking_uri, storage)
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    experiment = tracker.find_experiment(study)
    if experiment is None:
        raise StudyError(f"No study '{study}' in {tracker.uri}: `lab status` lists what there is")
    frame = leaderboard(tracker, experiment, study=study, metric=metric, top=top)
    if form == "csv":
        click.echo(frame.to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(frame.to_json(orient="records", indent=2))
    elif frame.empty:
        click.echo(f"No trial of {study} has begun yet")
    else:
        from rich.console import Console

        from lab.report import render

        Console().print(render(frame, title=study))
        click.echo(f"Load the best: mlflow.pytorch.load_model('runs:/{frame['run_id'].iloc[0]}/model')")
