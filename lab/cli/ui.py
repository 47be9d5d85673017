"""`lab ui`: the MLflow UI."""

from __future__ import annotations

import click

from lab import engines, serve, study
from lab.cli.options import store_options, stores_from, study_argument
from lab.cli.signals import stop_on_signals
from lab.errors import StudyError

__all__ = ["ui"]


@click.command(
    short_help="Open the MLflow UI.",
    epilog="""\b
Examples:
  lab ui
  lab ui quickstart                 (the leaderboard of a study)
  lab ui --port 5001 --no-open      (print the address only)

If the runs are on a server, this opens it. If they are in a database, such as .lab/mlflow.db, this also runs a server
for it, which only this machine can reach, until Ctrl-C. Training does not need it.""",
)
@study_argument(required=False)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Port of the server that is started.  [default: 5000, or a free one]",
)
@click.option("--open/--no-open", "opens", default=True, help="Whether to open a browser.  [default: --open]")
@store_options
def ui(
    name: str | None, port: int | None, opens: bool, tracking_uri: str | None, storage: str | None
) -> None:
    """Open the MLflow UI: all experiments, or the leaderboard of STUDY."""
    stores = stores_from(tracking_uri, storage)
    is_server = stores.tracking_uri.startswith("http")
    if not is_server and not study.database_exists(stores.tracking_uri):
        raise StudyError(
            f"Nothing has been tracked in {study.display_url(stores.tracking_uri)} yet: "
            "`lab train` and `lab sweep GRID` do that"
        )
    experiment = None if name is None else engines.study_experiment(name, stores)
    if is_server:
        _show(engines.link(stores.tracking_uri, experiment).url, opens)
        return

    def show(address: str) -> None:
        _show(engines.link(address, experiment).url, opens)
        click.echo("Ctrl-C stops it.", err=True)

    with stop_on_signals("") as stop:
        serve.serve_ui(stores, port, stop=stop, on_start=show)


def _show(address: str, opens: bool) -> None:
    click.echo(address)
    if opens:
        import webbrowser  # it imports subprocess, which help need not wait for

        webbrowser.open(address)
