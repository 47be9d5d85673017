"""`lab schema`: the JSON schema of grid files."""

from __future__ import annotations

import json

import click

from lab import config
from lab.cli.plugin_options import use_option

__all__ = ["schema"]


@click.command(
    short_help="Print the JSON schema of grid files, for editors.",
    epilog="""\b
Examples:
  lab schema > grid.schema.json
  lab schema --use my_nets.py > grid.schema.json     (with the settings of a plug-in)

With this first line in a grid file, editors that know the YAML language server complete its keys and underline errors
(VS Code: the extension YAML by Red Hat):

\b
  # yaml-language-server: $schema=grid.schema.json""",
)
@use_option
def schema() -> None:
    """Print the JSON schema of grid files. Editors use it to complete keys, show their meaning, and check values."""
    click.echo(json.dumps(config.grid_schema(), indent=1))
