"""`lab compare`: whether one is better than the other."""

from __future__ import annotations

from dataclasses import asdict

import click

from lab import engines, report
from lab.cli.console import plain_json, terminal
from lab.cli.options import complete_study, format_option, store_options, stores_from

__all__ = ["compare"]


@click.command(
    short_help="Say whether one study, cell or run is better than another.",
    epilog="""\b
Examples:
  lab compare baseline augmented                             (two studies)
  lab compare quickstart:optimizer=adam quickstart:optimizer=sgd     (cells of one)
  lab compare quickstart:3f2c9a quickstart:81d0              (cells by the start of their hashes)
  lab compare 3f2c 81d0                                      (runs)
  lab compare best:baseline best:augmented --metric test_accuracy""",
)
@click.argument("a", shell_complete=complete_study)
@click.argument("b", shell_complete=complete_study)
@click.option("--metric", default="best_value", show_default=True, help="Metric to compare.")
@format_option("table", "json")
@store_options
def compare(a: str, b: str, metric: str, form: str, tracking_uri: str | None, storage: str | None) -> None:
    """Say in one sentence whether A is better than B, and show by how much.

    A and B are studies, cells of a study (STUDY:SETTING=VALUE,… or STUDY:HASH), or runs: a run id or the start of one,
    models:/NAME/VERSION, or best:STUDY. They must monitor the same metric on the same images.

    Cells that both have are compared with each other; if there are none, the best cell of each is compared. Repeats
    with the same seeds or folds are compared by pairs. With a single run each, the models' predictions for the test
    images are compared.
    """
    stores = stores_from(tracking_uri, storage)
    compared = engines.compare(a, b, stores, metric)
    found = compared.found
    if form == "json":
        values = {"verdict": report.verdict(found), "winner": found.winner, **asdict(found)}
        click.echo(plain_json(values))
        return
    click.echo(report.verdict(found))
    click.echo()
    terminal().print(report.render_comparison(found))
    for name, count in zip((found.a, found.b), found.left_out, strict=True):
        if count:
            click.echo(f"Left out of {name}: {count:,} without a finite value, or diverged")
    link = engines.curves_link(stores.tracking_uri, compared.experiments, found.best_runs, found.monitor)
    click.echo(
        f"The curves of the best runs over each other: {', then '.join(filter(None, (link.command, link.url)))}"
    )
