"""`lab register`: a model in MLflow's registry."""

from __future__ import annotations

import click

from lab import engines
from lab.cli.messages import browse
from lab.cli.options import store_options, stores_from, study_argument

__all__ = ["register"]


@click.command(
    short_help="Register a study's best model under a name.",
    epilog="""\b
Examples:
  lab register quickstart --name digits --alias champion
  lab register quickstart --name digits --run 3f2c --alias challenger
  lab register --run 3f2c --name digits              (a run of `lab train`)""",
)
@study_argument(required=False)
@click.option(
    "--name",
    "model",
    metavar="NAME",
    required=True,
    help="Name of the registered model, which is created if there is none.",
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="ALIAS",
    help="Name for this version, taken from the one that had it before. May be repeated.",
)
@click.option("--run", metavar="RUN", help="Register the model of this run instead of the study's best.")
@store_options
def register(
    name: str | None,
    model: str,
    aliases: tuple[str, ...],
    run: str | None,
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Register the best model of STUDY, by the study's own objective, in MLflow's registry.

    A model card describes the version; the run keeps it too, as model_card.md. Registering the same run again under the
    same name makes no second version; it renews the card and sets the aliases.
    """
    if name is None and run is None:
        raise click.UsageError("Name a STUDY, or a run with --run.")
    stores = stores_from(tracking_uri, storage)
    found = engines.register_stored(name, stores, model, run=run, aliases=aliases)
    version = found.version
    what = f"version {version.version} of {version.name}"
    made = f"Registered run {found.run_id} as {what}"
    click.echo(made if version.is_new else f"Run {found.run_id} is {what} already; its card is up to date")
    for address in [version.uri, *(f"models:/{version.name}@{alias}" for alias in aliases)]:
        click.echo(f"  {address}")
    click.echo(browse(stores.tracking_uri, found.experiment, found.run_id))
