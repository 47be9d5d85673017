"""`lab effects`: what each value of each dimension did."""

from __future__ import annotations

import click

from lab import engines, report
from lab.cli.console import frame_json, terminal
from lab.cli.messages import tell_left_out
from lab.cli.options import all_option, format_option, store_options, stores_from, study_argument

__all__ = ["effects"]


@click.command(
    short_help="Show the effect of each value in a grid, averaged over the others.",
    epilog="""\b
Examples:
  lab effects quickstart
  lab effects quickstart --metric test_accuracy
  lab effects quickstart --metric seconds --format csv > effects.csv""",
)
@study_argument()
@click.option("--metric", default="best_value", show_default=True, help="Metric to average.")
@format_option("table", "csv", "json")
@all_option
@store_options
def effects(
    name: str, metric: str, form: str, everything: bool, tracking_uri: str | None, storage: str | None
) -> None:
    """Compare the values of each dimension of STUDY by their means over the trials that used them.

    The means are over the combinations of the other dimensions that all values have. Where that leaves less than half
    of the trials, as in a search, they are over all trials, and a line below the table says so.

    It covers the trials of the grid file that was last swept or submitted, including its --set values. In a search,
    values from a range are grouped into parts of that range with about equally many trials.

    The interval is the 95 % confidence interval of the mean; of two trials, the two values are shown instead. Trials
    without a value do not count, nor do diverged ones unless all trials with that value diverged.
    """
    stores = stores_from(tracking_uri, storage)
    found = engines.study_effects(name, stores, metric, of="all" if everything else "newest")
    if form == "csv":
        click.echo(report.without_formulas(found.table).to_csv(index=False), nl=False)
    elif form == "json":
        click.echo(frame_json(found.table))
    elif found.table.empty:
        click.echo(f"{name} varies nothing, or none of its trials has started yet")
    else:
        title = f"{name}: {found.metric}"
        terminal().print(report.render_effects(found.table, metric=found.metric, title=title))
    tell_left_out(found.trials, f"lab effects {name}", err=form != "table")
