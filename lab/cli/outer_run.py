"""A command in a run that `mlflow run` opened around it: the run must not be left RUNNING, whatever goes wrong."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lab import engines
from lab.cli.options import stores_from
from lab.errors import LabError
from lab.tracking import RunStatus

if TYPE_CHECKING:
    from lab.engines import Stores

__all__ = ["InRun", "join_outer_run"]

_JOINED = "lab.outer_run"  # key in click's `meta`: this process has joined the run, and so must end it


class InRun(click.Command):
    """A command that may be started by `mlflow run`; whatever ends it early ends that run too."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            _end(RunStatus.FAILED, error.format_message(), None)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except Exception as error:
            _end(RunStatus.FAILED, str(error) or type(error).__name__, ctx)
            raise
        except KeyboardInterrupt:
            _end(RunStatus.KILLED, "", ctx)
            click.echo("Interrupted", err=True)
            sys.exit(130)


def join_outer_run(stores: Stores) -> str | None:
    """Return the id of the run that was opened for this command, None if there is none.

    Raises:
        TrackingError: see `lab.engines.outer_run_id`.
    """
    run_id = engines.outer_run_id(stores.tracking_uri)
    if run_id is not None:
        click.get_current_context().meta[_JOINED] = True
    return run_id


def _end(status: RunStatus, why: str, ctx: click.Context | None) -> None:
    """End the run of `mlflow run`, if there is one; never hides what went wrong."""
    given = ctx.params["tracking_uri"] if ctx is not None else os.environ.get("MLFLOW_TRACKING_URI")
    joined = ctx is not None and _JOINED in ctx.meta
    with suppress(LabError):  # the store may be what failed
        engines.end_outer_run(status, why, stores_from(given, None).tracking_uri, joined=joined)
