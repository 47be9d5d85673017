"""The end of a run that did not get as far as its result."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import suppress

from lab.errors import LabError
from lab.objective.continuing import MOST_CHARACTERS
from lab.tracking import Run, RunStatus
from lab.tracking.tags import Tag

__all__ = ["end_early"]


def end_early(run: Run, status: RunStatus, tags: Mapping[str, str], why: str = "") -> None:
    """End a run in the handler of what ended it early; never hides that with an error of its own.

    Args:
        run: to end.
        status: FAILED also logs the traceback of the error that is being handled.
        tags: to set.
        why: the error in words.
    """
    reason = {Tag.ERROR: why[:MOST_CHARACTERS]} if why else {}
    with suppress(LabError):  # the store may be the very reason
        run.set_tags({**tags, **reason})
    if status is RunStatus.FAILED:
        with suppress(LabError):
            run.log_text(traceback.format_exc(), "traceback.txt")
    with suppress(LabError):
        run.end(status)
