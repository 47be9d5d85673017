"""`lab export`: what other programs read: the table of a study, or a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from lab import engines
from lab.cli.options import all_option, store_options, stores_from
from lab.cli.plugin_options import use_option
from lab.wording import counted

__all__ = ["export"]

_TABLES = ("csv", "parquet")
_SAYS = {
    "torch": "torch.load(FILE, weights_only=True): state_dict, config, intake",
    "onnx": "pixels in, probabilities out: uint8 [B, C, H, W] -> float32 [B, classes]",
    "pt2": "pixels in, probabilities out: torch.export.load(FILE).module()",
}


@click.command(
    short_help="Write the table of a study, or a trained model, for other programs.",
    epilog="""\b
Examples:
  lab export quickstart --format csv --out trials.csv
  lab export quickstart --format parquet --curves --out curves.parquet
  lab export best:quickstart --format onnx --out digits.onnx
  lab export models:/digits@champion --format pt2 --out digits.pt2
  lab export runs:/3f2c --format torch --out digits.pt""",
)
@click.argument("what", metavar="STUDY|MODEL")
@click.option(
    "--format",
    "form",
    type=click.Choice([*_TABLES, *sorted(_SAYS)]),
    required=True,
    help="Format of the file: csv and parquet of a study, the others of a model.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File to write, or to replace.",
)
@click.option("--curves", is_flag=True, help="Of a study: a row for each point of the curves.")
@all_option
@use_option
@store_options
def export(
    what: str,
    form: str,
    out: Path,
    curves: bool,
    everything: bool,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Write a file that other programs read without lab.

    \b
    csv, parquet  of a STUDY: a row for each trial with its settings, metrics, outcome
                  and times; or, with --curves, for each point: trial, metric, step, value
    onnx          of a MODEL: a graph from pixels (uint8 [B, C, H, W], 0 to 255) to
                  probabilities ([B, classes])
    pt2           the same as a graph of torch, for torch.export.load
    torch         the weights as a state dict, with all settings, for torch.load

    MODEL is a run id or the start of one, runs:/ID, models:/NAME/VERSION, models:/NAME@ALIAS, or best:STUDY.
    """
    if form not in _TABLES and (curves or everything):
        name = "--curves" if curves else "--all"
        raise click.UsageError(f"{name} is about the trials of a study; use --format csv or parquet")
    stores = stores_from(tracking_uri, storage)
    if form in _TABLES:
        rows = engines.write_study(
            what, stores, form, out, curves=curves, of="all" if everything else "newest"
        )
        click.echo(f"Wrote {out}: {counted(rows, 'point' if curves else 'trial')}")
        return
    model = engines.export_stored(what, stores, form, out)
    click.echo(f"Wrote {out} ({out.stat().st_size:,} bytes), the model of run {model.run_id}")
    click.echo(f"  {_SAYS[form].replace('FILE', repr(str(out)))}")
