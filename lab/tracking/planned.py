"""What was planned last into a study, kept on the study's run: by it the cells of its newest file are known."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lab.errors import TrackingError
from lab.tracking.base import Tracker
from lab.tracking.run import Run

__all__ = ["Planned", "log_planned", "read_planned"]

_FILE = "planned.json"


@dataclass(frozen=True)
class Planned:
    """A grid file's text, the `overrides` over it, and the hashes of its cells; a search has none."""

    text: str
    overrides: Mapping[str, Any]
    cells: tuple[str, ...] = ()


def log_planned(run: Run, tracker: Tracker, planned: Planned, *, partial: bool = False) -> Planned:
    """Keep on a study's `run` what was planned; return all of it.

    Args:
        run: the study's.
        tracker: where it is.
        planned: to be kept.
        partial: whether these are some cells of the file, beside those of it that were planned before.

    Raises:
        TrackingError: it cannot be stored.
    """
    if partial:
        with suppress(TrackingError):  # it is away, which is no reason not to plan
            before = read_planned(tracker, run.run_id)
            if before is not None and before.overrides == json.loads(json.dumps(planned.overrides)):
                cells = dict.fromkeys((*before.cells, *planned.cells))
                planned = replace(planned, cells=tuple(cells))
    run.log_text(json.dumps(asdict(planned)), _FILE)
    return planned


def read_planned(tracker: Tracker, run_id: str) -> Planned | None:
    """Return what was planned last into the study whose run is `run_id`; earlier versions of lab did not keep it.

    Raises:
        TrackingError: the store fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, _FILE, Path(folder))
        if file is None:
            return None
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
            return Planned(saved["text"], dict(saved["overrides"]), tuple(saved["cells"]))
        except (ValueError, KeyError, TypeError):  # somebody else's
            return None
