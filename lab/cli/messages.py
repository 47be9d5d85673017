"""Sentences that several commands say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Collection

    from lab.engines import Stores
    from lab.study import TrialQueue
    from lab.tracking import Left

__all__ = ["browse", "existing_study", "missing_of", "shown_address", "undelivered", "unknown_study"]


def shown_address(tracking_uri: str) -> str:
    """Return where a person finds the tracking store, without a password.

    In a container the server has a name that nobody outside can look up; `LAB_PUBLIC_URL` says the other one.
    """
    from lab.study import display_url

    return os.environ.get("LAB_PUBLIC_URL") or display_url(tracking_uri)


def browse(tracking_uri: str, experiment: str | None = None) -> str:
    """Return how to look at what was tracked; with an experiment's id, at its leaderboard."""
    from lab.tracking import study_page

    shown = shown_address(tracking_uri)
    page = study_page(experiment) if experiment else "/#/experiments?workflowType=machine_learning"
    if tracking_uri.startswith("http"):
        return f"Browse it: {shown.rstrip('/')}{page}"
    if Path("Makefile").exists() and tracking_uri.endswith(f"{Path.cwd()}/.lab/mlflow.db"):
        return f"Browse it: make ui, then http://127.0.0.1:5000{page}"
    return f"Browse it: mlflow server --workers 1 --backend-store-uri {shown}"


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
