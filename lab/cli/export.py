"""`lab export`: a trained model as a file that other programs load."""

from __future__ import annotations

from pathlib import Path

import click

from lab import engines
from lab.cli.options import store_options, stores_from
from lab.cli.plugin_options import use_option

__all__ = ["export"]

_SAYS = {
    "torch": "torch.load(FILE, weights_only=True): state_dict, config, intake",
    "onnx": "pixels in, probabilities out: uint8 [B, C, H, W] -> float32 [B, classes]",
    "pt2": "pixels in, probabilities out: torch.export.load(FILE).module()",
}


@click.command(
    short_help="Write a trained model to a file for other programs.",
    epilog="""\b
Examples:
  lab export best:quickstart --format onnx --out digits.onnx
  lab export models:/digits@champion --format pt2 --out digits.pt2
  lab export runs:/3f2c --format torch --out digits.pt""",
)
@click.argument("what", metavar="MODEL")
@click.option("--format", "form", type=click.Choice(sorted(_SAYS)), required=True, help="Format of the file.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File to write, or to replace.",
)
@use_option
@store_options
def export(what: str, form: str, out: Path, tracking_uri: str | None, storage: str | None) -> None:
    """Write MODEL to a file that programs load without lab.

    MODEL is a run id or the start of one, runs:/ID, models:/NAME/VERSION, models:/NAME@ALIAS, or best:STUDY.

    \b
    onnx   a graph from pixels (uint8 [B, C, H, W], 0 to 255) to probabilities ([B, classes])
    pt2    the same as a graph of torch, for torch.export.load
    torch  the weights as a state dict, with all settings, for torch.load
    """
    stores = stores_from(tracking_uri, storage)
    model = engines.export_stored(what, stores, form, out)
    click.echo(f"Wrote {out} ({out.stat().st_size:,} bytes), the model of run {model.run_id}")
    click.echo(f"  {_SAYS[form].replace('FILE', repr(str(out)))}")
