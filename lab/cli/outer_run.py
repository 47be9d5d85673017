"""The run that `mlflow run` opened around this process: it must not be left RUNNING, whatever goes wrong here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from lab.errors import LabError, TrackingError
from lab.tracking import RunStatus, UnavailableError, public_uri
from lab.tracking.tags import Tag

if TYPE_CHECKING:
    from lab.tracking import Run
    from lab.tracking.frames import RunRecord

__all__ = ["InRun", "open_outer_run", "outer_run_id"]

_VARIABLE = "MLFLOW_RUN_ID"
_PROJECT_TAG = "mlflow.project.entryPoint"  # of runs that `mlflow run` opens
_JOINED = "lab.outer_run"  # key in click's `meta`: this process has the run, and so has to end it
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
            why = str(error) or type(error).__name__
            _end(RunStatus.FAILED, why, ctx.params["tracking_uri"], joined=_JOINED in ctx.meta)
            raise
        except KeyboardInterrupt:
            _end(RunStatus.KILLED, "", ctx.params["tracking_uri"], joined=_JOINED in ctx.meta)
            click.echo("Interrupted", err=True)
            sys.exit(130)


def outer_run_id(tracking_uri: str) -> str | None:
    """Return the id of the run that was opened for this process, None where there is none.

    Raises:
        TrackingError: `MLFLOW_RUN_ID` names a run that is not there, has ended, or is about something else.
    """
    run_id = os.environ.get(_VARIABLE)
    if not run_id:
        return None
    _check(run_id, tracking_uri)
    click.get_current_context().meta[_JOINED] = True
    return run_id


def open_outer_run(tracking_uri: str, run_id: str, tags: Mapping[str, str]) -> Run:
    """Open the run that `outer_run_id` has returned, to set `tags`."""
    from lab.tracking import connect

    return connect(tracking_uri).open_run(name="", experiment="", tags=tags, run_id=run_id)


def _check(run_id: str, tracking_uri: str) -> None:
    """Raise where a run was not opened for this process: its results would be mixed with others."""
    from lab.tracking import connect

    try:
        reason = _refusal(connect(tracking_uri).record(run_id))
    except UnavailableError:
        raise
    except TrackingError:
        reason = f"is not at {public_uri(tracking_uri)}"
    if reason:
        raise TrackingError(
            f"{_VARIABLE} names run {run_id}, which {reason}, so nothing was written to it. For a run of its own: "
            f"unset {_VARIABLE}"
        )


def _refusal(run: RunRecord) -> str:
    if run.status not in (RunStatus.RUNNING, RunStatus.SCHEDULED):
        return f"has ended ({run.status})"
    if Tag.KIND in run.tags:
        return f"is a {run.tags[Tag.KIND]}'s already"
    if _PROJECT_TAG not in run.tags and (run.params or run.metrics):
        return "is about something else: `mlflow run` did not open it, and it has params or metrics"
    return ""


def _end(status: RunStatus, why: str, tracking_uri: str | None, *, joined: bool = False) -> None:
    """End the outer run, if there is one; never hides what went wrong."""
    from lab.cli.options import stores_from

    run_id = os.environ.get(_VARIABLE)
    if not run_id:
        return
    tags = {Tag.OUTCOME: status.lower(), **({Tag.ERROR: why[:_MOST_CHARACTERS]} if why else {})}
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    with suppress(LabError):  # the store may be the very reason
        uri = stores_from(tracking_uri, None).tracking_uri
        if not joined:
            _check(run_id, uri)
        open_outer_run(uri, run_id, tags).end(status)
