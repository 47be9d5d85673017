"""Runs a check so that neither an error nor a long wait in it stops the others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

from lab.errors import LabError
from lab.upkeep.finding import Finding, Verdict

__all__ = ["limited"]


def limited(
    name: str, check: Callable[[], Iterator[Finding]], seconds: float, mend: str
) -> Iterator[Finding]:
    """Yield the findings of `check` as they come; an error or a timeout is a finding too.

    Args:
        name: name of the check.
        check: runs in a thread, which is abandoned when its time is up.
        seconds: time limit for the whole check.
        mend: what to do if it fails or does not answer in time.
    """
    found: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()  # ends with None

    def run() -> None:
        try:
            for finding in check():
                found.put(finding)
        except LabError as error:
            found.put(Finding(name, Verdict.FAILED, str(error), mend))
        except Exception as error:  # noqa: BLE001  # whatever it is, the other checks must run
            found.put(Finding(name, Verdict.FAILED, f"{type(error).__name__}: {error}", mend))
        finally:
            found.put(None)

    threading.Thread(target=run, name=f"check of {name}", daemon=True).start()
    deadline = time.monotonic() + seconds
    while True:
        try:
            finding = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            yield Finding(name, Verdict.FAILED, f"no answer within {seconds:.0f} s", mend)
            return
        if finding is None:
            return
        yield finding
