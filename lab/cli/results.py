"""`lab results`: the results document, from the tracked runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.cli.again import command_line
from lab.cli.options import store_options, stores_from
from lab.config import Grid, check_files
from lab.errors import LabError
from lab.tracking.tags import Tag

if TYPE_CHECKING:
    from lab.engines import Stores
    from lab.report import GridResults

__all__ = ["results"]

_OUT = Path("docs") / "RESULTS.md"


@click.command(
    short_help="Write the results of grids beside what was reported.",
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
    """Write a Markdown document of what each GRID gave: its runs here, beside the figures of its `reported`.

    What results/NAME.md in the document's folder says of a study is put beneath its tables.
    """
    from lab.report import results_document

    loaded = check_files(grids)
    found = _results(loaded, stores_from(tracking_uri, storage))
    again = command_line(ctx, only={"grids", "out"})
    try:
        text = results_document(
            zip(loaded, found, strict=True), _comments(loaded, out.parent / "results"), again
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LabError(f"Writing {out} failed: {error}") from None
    missing = [grid.name for grid, one in zip(loaded, found, strict=True) if one is None]
    click.echo(f"Wrote {out}" + (f"; not run here: {', '.join(missing)}" if missing else ""))


def _results(grids: list[Grid], stores: Stores) -> list[GridResults | None]:
    from lab.report import grid_results
    from lab.study import database_exists
    from lab.tracking import connect

    if not database_exists(stores.tracking_uri):
        return [None] * len(grids)
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    found: list[GridResults | None] = []
    for grid in grids:
        experiment = tracker.find_experiment(grid.name)
        tags = {Tag.STUDY: grid.name, Tag.KIND: "trial"}
        found.append(grid_results(grid, tracker.runs(experiment, tags=tags)) if experiment else None)
    return found


def _comments(grids: list[Grid], folder: Path) -> dict[str, str]:
    files = {grid.name: folder / f"{grid.name}.md" for grid in grids}
    return {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.exists()}
