"""Where a person looks at what was tracked."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import study, tracking

__all__ = ["Link", "curves_link", "link", "public_address"]

_UI = "http://127.0.0.1:5000"  # default address of `lab ui`


@dataclass(frozen=True)
class Link:
    """A page of the MLflow UI: the command that starts a server for it (empty if one runs), then its address.

    `url` is empty where only a server has to be started.
    """

    command: str
    url: str


def public_address(tracking_uri: str) -> str:
    """Return the address of the tracking store for people, without a password.

    `LAB_PUBLIC_URL` overrides it: inside a container, the server's name means nothing to the outside.
    """
    return os.environ.get("LAB_PUBLIC_URL") or study.display_url(tracking_uri)


def curves_link(tracking_uri: str, experiments: Sequence[str], runs: Sequence[str], metric: str) -> Link:
    """Return the page that shows the curves of several runs over each other.

    Args:
        tracking_uri: of the tracking store.
        experiments: ids of their experiments.
        runs: their ids.
        metric: that they log after every epoch.
    """
    return _link(tracking_uri, tracking.curves_page(experiments, runs, metric))


def link(tracking_uri: str, experiment: str | None = None, run_id: str | None = None) -> Link:
    """Return the page of a run, of an experiment's leaderboard, or else of all experiments.

    Args:
        tracking_uri: of the tracking store.
        experiment: id of the experiment.
        run_id: id of one of its runs.
    """
    if experiment is None:
        return _link(tracking_uri, "/#/experiments?workflowType=machine_learning", only_server=True)
    page = tracking.study_page(experiment) if run_id is None else tracking.run_page(experiment, run_id)
    return _link(tracking_uri, page)


def _link(tracking_uri: str, page: str, *, only_server: bool = False) -> Link:
    address = public_address(tracking_uri)
    if tracking_uri.startswith("http"):
        return Link("", f"{address.rstrip('/')}{page}")
    own = tracking_uri.endswith(f"{Path.cwd()}/.lab/mlflow.db")
    if own and Path("Makefile").exists():  # in a clone, `lab` may not be on the PATH
        return Link("make ui", f"{_UI}{page}")
    command = "lab ui" if own else f"lab ui --tracking-uri {shlex.quote(address)}"
    return Link(command, "" if only_server else f"{_UI}{page}")
