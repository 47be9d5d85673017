"""`lab results`: the results document, from the tracked runs."""

from __future__ import annotations

from pathlib import Path

import click

from lab import engines
from lab.cli.again import command_line
from lab.cli.options import store_options, stores_from
from lab.config import check_files

__all__ = ["results"]

_OUT = Path("docs") / "RESULTS.md"


@click.command(
    short_help="Write the results of grids next to published figures.",
    epilog="""\b
Examples:
  lab results grids/quickstart.yaml
  lab results grids/*.yaml --out docs/RESULTS.md""",
)
@click.argument("grids", metavar="GRID...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=_OUT,
    show_default=True,
    help="File to write.",
)
@store_options
@click.pass_context
def results(
    ctx: click.Context, grids: tuple[Path, ...], out: Path, tracking_uri: str | None, storage: str | None
) -> None:
    """Write a Markdown document with the results of each GRID, next to the published figures it lists as `reported`.

    It begins with the `claims` of the grids: does each hold here? results/NAME.csv in the document's folder gets a row
    for each run of the study NAME; if results/NAME.md exists there, its text follows the study's tables. A study
    without finished runs in these stores keeps the section that the document has of it.
    """
    again = command_line(ctx, only={"grids", "out"})
    kept, missing = engines.write_results(check_files(grids), stores_from(tracking_uri, storage), out, again)
    absent = {"kept from before": kept, "not run here": missing}
    notes = [f"; {what}: {', '.join(names)}" for what, names in absent.items() if names]
    click.echo(f"Wrote {out}{''.join(notes)}")
