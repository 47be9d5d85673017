"""`lab predict`: what a trained model says about pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table
from rich.text import Text

from lab import engines
from lab.cli.console import print_row, terminal
from lab.cli.options import format_option, store_options, stores_from
from lab.cli.plugin_options import use_option
from lab.errors import DataError, printable
from lab.wording import counted

if TYPE_CHECKING:
    from lab.trained import Prediction

__all__ = ["predict"]

_SHOWN = 5  # unreadable files


@click.command(
    short_help="Classify pictures with a trained model.",
    epilog="""\b
Examples:
  lab predict best:quickstart digit.png
  lab predict runs:/3f2c photos/ --top 5           (the start of a run id, as shown by `lab best`)
  lab predict models:/digits@champion photos/ --format csv > predictions.csv""",
)
@click.argument("model")
@click.argument(
    "images", nargs=-1, required=True, metavar="IMAGE|FOLDER...", type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Maximum number of classes to show for each picture, the most likely first.",
)
@click.option(
    "--device", metavar="DEVICE", help="Device of the model, e.g. cpu or cuda:1.  [default: the run's]"
)
@click.option(
    "--skip-unreadable", is_flag=True, help="Exit with 0 even if some files cannot be read as pictures."
)
@use_option
@format_option("table", "csv", "json")
@store_options
def predict(
    model: str,
    images: Sequence[Path],
    top: int,
    device: str | None,
    skip_unreadable: bool,
    form: str,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Classify each IMAGE, and each picture in and below FOLDER, with MODEL.

    MODEL is a run id or the start of one, runs:/ID, models:/NAME/VERSION, models:/NAME@ALIAS, or best:STUDY. Pictures
    are turned upright, resized and scaled as in training. For a net of your own, name its plug-in with --use: lab never
    takes code from a run.
    """
    stores = stores_from(tracking_uri, storage)
    trained, found = engines.predict_stored(model, stores, images, top=top, device=device)
    faults: dict[str, str] = {}
    _PRINTED[form](_readable(found, faults), min(top, len(trained.intake.classes)))
    if faults:
        message = _unreadable(faults)
        if not skip_unreadable:
            raise DataError(f"{message}\n--skip-unreadable accepts that")
        click.echo(message, err=True)


def _readable(found: Iterable[Prediction], faults: dict[str, str]) -> Iterator[Prediction]:
    """Yield the predictions for pictures that could be read; put the faults of the others into `faults`."""
    for each in found:
        if each.fault:
            faults[each.picture] = each.fault
        else:
            yield each


def _unreadable(faults: dict[str, str]) -> str:
    lines = [f"  {printable(name)}: {printable(fault)}" for name, fault in islice(faults.items(), _SHOWN)]
    more = [f"  … and {len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else []
    return "\n".join([f"{counted(len(faults), 'file')} left out, not readable as pictures:", *lines, *more])


def _print_table(found: Iterable[Prediction], top: int) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("image", overflow="fold")
    for place in range(top):
        table.add_column("class" if place == 0 else f"{place + 1}.")
        table.add_column("probability" if place == 0 else "", justify="right")
    for each in found:
        cells = [text for name, share in each.classes for text in (printable(name), f"{share:.2%}")]
        table.add_row(*map(Text, (printable(each.picture), *cells)))  # as Text: names may contain brackets
    if table.row_count:
        terminal().print(table)


def _print_csv(found: Iterable[Prediction], top: int) -> None:
    print_row(("image", "rank", "class", "probability"))
    for each in found:
        for place, (name, share) in enumerate(each.classes, start=1):
            print_row((each.picture, place, name, share))


def _print_json(found: Iterable[Prediction], top: int) -> None:
    records = [
        {
            "image": each.picture,
            "predictions": [{"class": name, "probability": share} for name, share in each.classes],
        }
        for each in found
    ]
    click.echo(json.dumps(records, indent=2))


_PRINTED: dict[str, Callable[[Iterable[Prediction], int], None]] = {
    "table": _print_table,
    "csv": _print_csv,
    "json": _print_json,
}
