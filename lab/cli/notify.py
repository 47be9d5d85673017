"""`lab notify`: does a message reach everybody who is to be told of a study?"""

from __future__ import annotations

from pathlib import Path

import click

from lab import engines
from lab.cli.options import grid_from
from lab.errors import LabError
from lab.wording import counted

__all__ = ["notify"]


@click.command(
    short_help="Send a test message to everyone who gets messages about studies.",
    epilog="""\b
Examples:
  lab notify grids/first.yaml
  LAB_NOTIFY=json://127.0.0.1:8000 lab notify

LAB_NOTIFY holds one or more apprise URLs, separated by spaces; LAB_NOTIFY_FILE names a file with them. They get a
message when any study trained from here is over, when its first cell fails, when it has a new best (at most every ten
minutes), and when a worker is lost. `notify:` in a grid file does the same for one study.""",
)
@click.argument("grid", type=click.Path(path_type=Path), required=False)
def notify(grid: Path | None) -> None:
    """Send a test message to the addresses in LAB_NOTIFY, and to those that `notify:` of GRID names.

    The exit code is 0 if all accept it, and 1 otherwise.
    """
    dead = 0
    for hook, accepted in engines.try_hooks(None if grid is None else grid_from(grid, (), ())):
        click.echo(f"{'ok' if accepted else 'NO'}  {hook}")
        dead += not accepted
    if dead:
        raise LabError(
            f"{counted(dead, 'address', 'addresses')} cannot be reached, or did not accept the message"
        )
