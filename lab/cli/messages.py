"""Sentences that several commands say."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Collection

    from lab.engines import Stores
    from lab.study import TrialQueue
    from lab.tracking import Left

__all__ = [
    "browse",
    "data_lines",
    "existing_study",
    "missing_of",
    "shown_address",
    "undelivered",
    "unknown_study",
]


_UI = "http://127.0.0.1:5000"  # where `make ui` and `mlflow server` are, unless they are told otherwise


def shown_address(tracking_uri: str) -> str:
    """Return where a person finds the tracking store, without a password.

    In a container the server has a name that nobody outside can look up; `LAB_PUBLIC_URL` says the other one.
    """
    from lab.study import display_url

    return os.environ.get("LAB_PUBLIC_URL") or display_url(tracking_uri)


def data_lines(notes: Sequence[str]) -> list[str]:
    """Return how to show `lab.data.data_notes`: nothing where there are none."""
    return ["data", *(f"  {note}" for note in notes)] if notes else []


def browse(tracking_uri: str, experiment: str | None = None, run_id: str | None = None) -> str:
    """Return how to look at what was tracked; with an experiment's id at its leaderboard, with a run's too at that."""
    from lab.tracking import run_page, study_page

    shown = shown_address(tracking_uri)
    page = "/#/experiments?workflowType=machine_learning"
    if experiment is not None:
        page = study_page(experiment) if run_id is None else run_page(experiment, run_id)
    if tracking_uri.startswith("http"):
        return f"Browse it: {shown.rstrip('/')}{page}"
    if Path("Makefile").exists() and tracking_uri.endswith(f"{Path.cwd()}/.lab/mlflow.db"):
        return f"Browse it: make ui, then {_UI}{page}"
    server = f"mlflow server --workers 1 --backend-store-uri {shlex.quote(shown)}"
    return f"Browse it: {server}" + (f", then {_UI}{page}" if experiment is not None else "")


def undelivered(left: Left, tracking_uri: str) -> str:
    """Return what the tracking store has not acknowledged, and what to do."""
    from lab.tracking import public_uri

    how = "`lab sync` tells why" if left.refused else "`lab sync`, or any later worker here, delivers them"
    return f"Not delivered to {public_uri(tracking_uri)}: {left}. They are kept in .lab/journal; {how}"


def unknown_study(name: str, storage: str) -> str:
    """Return that there is no study called `name`, and what there is."""
    from lab.registry import suggest
    from lab.study import known_studies, not_labs

    names, others = known_studies(storage)
    if name in others:
        return not_labs(name)
    known = f" Known: {', '.join(names)}" if names else " There are none yet: `lab sweep GRID` makes one."
    return f"No study '{name}' here.{suggest(name, list(names))}{known}"


def missing_of(queue: TrialQueue, stores: Stores) -> Collection[str]:
    """Return those runs of a study's cells that are no more; says on stderr where that cannot be known."""
    from lab.errors import TrackingError
    from lab.study import run_ids
    from lab.tracking import missing_runs

    try:
        return missing_runs(stores.tracking_uri, run_ids(queue))
    except TrackingError as error:
        click.echo(f"Whether runs were deleted is not known: {error}", err=True)
        return ()


def existing_study(name: str, storage: str) -> TrialQueue:
    """Return the trials of the study called `name`.

    Raises:
        StudyError: there is none; says which there are.
    """
    from lab.study import find_queue

    queue = find_queue(storage, name)
    if queue is None:
        raise StudyError(unknown_study(name, storage))
    return queue
