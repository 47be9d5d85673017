"""The experiment that the environment names, where a command does not use it."""

from __future__ import annotations

import click

from lab import engines

__all__ = ["note_experiment"]


def note_experiment(study: str) -> None:
    """Say that a study has its own experiment if the environment names another one."""
    variable = engines.ignored_variable(study)
    if variable is not None:
        click.echo(f"{variable} is ignored: a study's experiment has the study's name, '{study}'", err=True)
