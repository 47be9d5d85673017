"""The run that `mlflow run` opened around this process: it must not be left RUNNING, whatever goes wrong here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lab.errors import TrackingError
from lab.tracking import RunStatus

if TYPE_CHECKING:
    from lab.tracking import Run

__all__ = ["InRun", "open_outer_run", "outer_run_id"]

_MOST_CHARACTERS = 1000


class InRun(click.Command):
    """A command that may stand in a run of `mlflow run`, and ends that run with whatever ends it early."""

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
            _end(RunStatus.FAILED, str(error) or type(error).__name__, ctx.params["tracking_uri"])
            raise
        except KeyboardInterrupt:
            _end(RunStatus.KILLED, "", ctx.params["tracking_uri"])
            click.echo("Interrupted", err=True)
            sys.exit(130)


def outer_run_id() -> str | None:
    """Return the id of the run that `mlflow run` opened, None where it did not start this process."""
    return os.environ.get("MLFLOW_RUN_ID") or None


def open_outer_run(tracking_uri: str | None, tags: Mapping[str, str]) -> Run | None:
    """Open the run that `mlflow run` opened, to set `tags`; None without one.

    Raises:
        TrackingError: it is not there.
    """
    from lab.cli.options import stores_from
    from lab.tracking import connect

    run_id = outer_run_id()
    if run_id is None:
        return None
    tracker = connect(stores_from(tracking_uri, None).tracking_uri)
    return tracker.open_run(name="", experiment="", tags=tags, run_id=run_id)


def _end(status: RunStatus, why: str, tracking_uri: str | None) -> None:
    """End the outer run, if there is one; never hides what went wrong."""
    if outer_run_id() is None:
        return
    tags = {"lab.outcome": status.lower(), **({"lab.error": why[:_MOST_CHARACTERS]} if why else {})}
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    with suppress(TrackingError):  # the store may be the very reason
        run = open_outer_run(tracking_uri, tags)
        if run is not None:
            run.end(status)
