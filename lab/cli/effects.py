"""`lab effects`: what each value of each dimension did."""

from __future__ import annotations

import click

from lab.cli.best import read_leaderboard, tell_left_out
from lab.cli.console import terminal
from lab.cli.options import all_option, store_options, stores_from

__all__ = ["effects"]


@click.command(
    short_help="Show what each value of a grid did, averaged over the others.",
    epilog="""\b
Examples:
  lab effects quickstart
  lab effects quickstart --metric test_accuracy
  lab effects quickstart --metric seconds --format csv > effects.csv""",
)
@click.argument("study")
@click.option("--metric", default="best_value", show_default=True, help="Metric to average.")
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@all_option
@store_options
def effects(
    study: str, metric: str, form: str, everything: bool, tracking_uri: str | None, storage: str | None
) -> None:
    """Compare the values of each dimension of STUDY, each by its mean over all trials that have it.

    The trials are those of the grid file that was swept or submitted last, with its --set. Of a search, the values
    from a range are put together in parts of it with as many trials each.

    ± is half of the 95 % interval of that mean. Trials without a value are left out, and so are those that
    diverged, unless all of a value's did.
    """
    from lab.report import effects as effects_of
    from lab.report import render_effects

    stores = stores_from(tracking_uri, storage)
    frame = read_leaderboard(study, stores, metric, repeats="each", everything=everything)
    table = effects_of(frame, frame.attrs["varied"])
    if form == "csv":
        click.echo(table.to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(table.to_json(orient="records", indent=2))
    elif table.empty:
        click.echo(f"{study} varies nothing, or no trial of it has begun yet")
    else:
        monitored = frame.attrs["monitor"] if metric == "best_value" else metric
        terminal().print(render_effects(table, metric=monitored, title=f"{study}: {monitored}"))
    tell_left_out(frame, f"lab effects {study}", err=form != "table")
