"""`lab importance`: which dimension mattered."""

from __future__ import annotations

from dataclasses import asdict

import click

from lab import engines, report
from lab.cli.console import plain_json, terminal
from lab.cli.messages import tell_left_out
from lab.cli.options import all_option, format_option, store_options, stores_from, study_argument

__all__ = ["importance"]


@click.command(
    short_help="Show which settings of a study mattered, and how sure that is.",
    epilog="""\b
Examples:
  lab importance quickstart
  lab importance quickstart_search --metric test_accuracy""",
)
@study_argument()
@click.option("--metric", default="best_value", show_default=True, help="Metric to judge importance by.")
@format_option("table", "json")
@all_option
@store_options
def importance(
    name: str, metric: str, form: str, everything: bool, tracking_uri: str | None, storage: str | None
) -> None:
    """Say in one sentence which dimension of STUDY mattered most, and show how important each one was.

    `for the best` is each dimension's share of what distinguishes the best cells from the others (PED-ANOVA), `overall`
    its share of the variance over all cells (fANOVA), both with 95 % bootstrap intervals; `first` is the share of
    resamples in which it was the most important for the best. `p` is from an F test, corrected for the number of
    dimensions; dimensions in bold have an effect that is not chance. An interaction is what two dimensions explain only
    together.

    Repeats with other seeds or folds are averaged first. It covers the trials of the grid file that was last swept or
    submitted, including its --set values.
    """
    stores = stores_from(tracking_uri, storage)
    found = engines.study_importance(name, stores, metric, of="all" if everything else "newest")
    if form == "json":
        verdict = report.importance_verdict(found.importance)
        click.echo(plain_json({"verdict": verdict, **asdict(found.importance)}))
    else:
        click.echo(f"{name}: {report.importance_verdict(found.importance)}")
        click.echo()
        terminal().print(report.render_importance(found.importance))
    tell_left_out(found.trials, f"lab importance {name}", err=form != "table")
