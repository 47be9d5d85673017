"""The latest plan of a study, kept in its run: it tells which cells the newest grid file has."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lab.errors import TrackingError
from lab.tracking.base import Reader
from lab.tracking.run import Run

__all__ = ["Planned", "log_planned", "read_planned"]

_FILE = "planned.json"


@dataclass(frozen=True)
class Planned:
    """A grid file's text, the `overrides` applied to it, and the hashes of its cells (none for a search)."""

    text: str
    overrides: Mapping[str, Any]
    cells: tuple[str, ...] = ()


def log_planned(run: Run, tracker: Reader, planned: Planned, *, partial: bool = False) -> Planned:
    """Keep a plan in a study's `run`; return it, complete.

    Args:
        run: of the study.
        tracker: that has the run.
        planned: the plan.
        partial: whether it has only some cells of the file, in addition to those planned before.

    Raises:
        TrackingError: it cannot be stored.
    """
    if partial:
        with suppress(TrackingError):  # an unreachable store is no reason not to plan
            before = read_planned(tracker, run.run_id)
            if before is not None and before.overrides == json.loads(json.dumps(planned.overrides)):
                cells = dict.fromkeys((*before.cells, *planned.cells))
                planned = replace(planned, cells=tuple(cells))
    run.log_text(json.dumps(asdict(planned)), _FILE)
    return planned


def read_planned(tracker: Reader, run_id: str) -> Planned | None:
    """Return the latest plan of the study with the run `run_id`, None if an earlier version of lab made it.

    Raises:
        TrackingError: the store failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, _FILE, Path(folder))
        if file is None:
            return None
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
            return Planned(saved["text"], dict(saved["overrides"]), tuple(saved["cells"]))
        except (ValueError, KeyError, TypeError):  # not written by lab
            return None
