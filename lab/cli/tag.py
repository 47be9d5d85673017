"""`lab tag`: tags of your own on runs and studies."""

from __future__ import annotations

import click

from lab import engines
from lab.cli.messages import browse
from lab.cli.options import run_or_study_argument, store_options, stores_from

__all__ = ["tag"]


@click.command(
    short_help="Set tags on a run or a study.",
    epilog="""\b
Examples:
  lab tag quickstart owner=ana paper=table2
  lab tag 3f2c keep=yes                    (a run, by the start of its id)
  lab tag best:quickstart checked=2024-05
  lab tag quickstart --remove paper
The MLflow UI shows tags as columns and searches for them: tags.owner = 'ana'.""",
)
@run_or_study_argument
@click.argument("tags", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--remove", "removed", multiple=True, metavar="KEY", help="Remove this tag. May be repeated.")
@store_options
def tag(
    name: str,
    tags: tuple[str, ...],
    removed: tuple[str, ...],
    tracking_uri: str | None,
    storage: str | None,
) -> None:
    """Set tags on a run, or on the run of a study, and remove others.

    NAME is a study; or a run: its id or the start of it, models:/NAME/VERSION, or best:STUDY. Tags that begin with
    lab. or mlflow. are refused, because lab and MLflow use them.
    """
    wanted = _pairs(tags)
    if not (wanted or removed):
        raise click.UsageError("Give KEY=VALUE to set a tag, or --remove KEY.")
    both = sorted(wanted.keys() & set(removed))
    if both:
        raise click.UsageError(f"{both[0]} is both set and removed; give only one of the two.")
    stores = stores_from(tracking_uri, storage)
    found = engines.tag(name, stores, wanted, removed)
    changes = [
        *(f"{key}={value}" for key, value in wanted.items()),
        *(
            f"{key} not removed: there is no such tag" if key in found.lacked else f"{key} removed"
            for key in removed
        ),
    ]
    click.echo(f"{found.what}: {', '.join(changes)}")
    click.echo(browse(stores.tracking_uri, found.experiment, found.run_id))


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    wrong = [
        text for text, (key, equals, _) in zip(texts, pairs, strict=True) if not (key.strip() and equals)
    ]
    if wrong:
        raise click.UsageError(f"A tag is KEY=VALUE, e.g. owner=ana, but got {wrong[0]!r}.")
    return {key.strip(): value for key, _, value in pairs}
