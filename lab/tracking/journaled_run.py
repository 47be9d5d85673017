"""One run that is written to a journal on local disk; `JournaledTracker` makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lab.errors import ResourceError
from lab.hold import Hold
from lab.tracking.courier import Courier
from lab.tracking.run import Run
from lab.tracking.writes import Write

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lab.data import Intake
    from lab.tracking.journaled import JournaledTracker

__all__ = ["JournaledRun", "Monitor"]


class Monitor(Protocol):
    """Logs the machine's load to a run."""

    def stop(self) -> None:
        """Stop logging."""


class JournaledRun(Run):
    """A `Run` whose writes return as soon as they are on local disk; made by `JournaledTracker`."""

    def __init__(
        self,
        tracker: JournaledTracker,
        courier: Courier,
        run_id: str,
        *,
        attempt: str = "",
        hold: Hold | None = None,
    ) -> None:
        self._tracker = tracker
        self._courier = courier
        self._run_id = run_id
        self._attempt = attempt
        self._hold = hold or Hold()
        self._monitor: Monitor | None = None

    @property
    def run_id(self) -> str:
        """The id to re-open it with; `pending-…` if the store was unreachable when it was opened."""
        return self._run_id

    @property
    def url(self) -> str | None:
        """The page of this run in the MLflow UI, or None if no server shows it (yet)."""
        return self._courier.url

    def write(self, write: Write) -> None:
        """Keep a write in the journal.

        Raises:
            Lost: another worker has the trial.
            ResourceError: the journal cannot be written.
            TrackingError: the store has refused an earlier write for good; this one is kept nevertheless.
        """
        if write.is_final:
            self._stop_monitor()
        self._hold.confirm()
        try:
            if not self._courier.add(write):  # it had delivered everything, and has ended
                self._courier = self._tracker.keep(self._courier.run_id or self._run_id, write)
        except ResourceError:
            self._courier.put_directly(write)
            raise
        if self._courier.refusal is not None:
            raise self._courier.refusal

    def leave(self) -> None:
        """Write nothing more; undelivered writes are dropped, except metric values that the run lacks."""
        self._hold.lose()
        self._stop_monitor()
        self._courier.leave(self._attempt)

    def watch(self, start: Callable[[JournaledRun], Monitor]) -> None:
        """Log the machine's load until the run ends."""
        self._monitor = start(self)

    def _stop_monitor(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.stop()

    def _save_model(self, model: nn.Module, example: Tensor, folder: Path, intake: Intake | None) -> None:
        self._tracker.save_model(model, example, folder, intake)
