"""What happens to a worker, as records of its log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from lab.logs import event as fields
from lab.study.events import TrialEnded, TrialStarted, WorkerDied, WorkerFailed

if TYPE_CHECKING:
    from lab.study import Event, TrialQueue

__all__ = ["EventLog", "Observer"]

_LOGGER = logging.getLogger("lab.worker")


class Observer(Protocol):
    """Is told what happens: see `lab.engines.serve`."""

    def event(self, queue: TrialQueue, event: Event) -> None:
        """Take in what has happened to a trial or a worker of a study."""

    def trouble(self, message: str) -> None:
        """Take in what keeps a study from being worked on for now."""


class EventLog:
    """Logs it. The message is for people; `event` and its other fields are for programs."""

    def waiting(self, studies: tuple[str, ...]) -> None:
        """Log what this worker waits for."""
        chosen = ", ".join(studies)
        _LOGGER.info("waiting for trials of %s", chosen or "all studies", extra=fields("waiting"))

    def serving(self, address: str) -> None:
        """Log where the metrics are."""
        _LOGGER.info("metrics at %s", address, extra=fields("metrics", address=address))

    def stopping(self, message: str) -> None:
        """Log that a signal asked for a stop."""
        _LOGGER.warning(message, extra=fields("stopping"))

    def undelivered(self, message: str, writes: int) -> None:
        """Log what the tracking server has not received when this worker exits."""
        _LOGGER.warning(message, extra=fields("undelivered", writes=writes))

    def delivered(self, message: str) -> None:
        """Log what was delivered to the tracking server at last."""
        _LOGGER.info(message, extra=fields("delivered"))

    def note(self, message: str) -> None:
        """Log what the engine says about its workers."""
        _LOGGER.info("%s", message, extra=fields("engine"))

    def trouble(self, message: str) -> None:
        """Log what keeps a study from being worked on for now."""
        _LOGGER.warning(message, extra=fields("trouble"))

    def event(self, queue: TrialQueue, event: Event) -> None:
        """Log what has happened; epochs are for the metrics only."""
        study = queue.name
        if isinstance(event, WorkerFailed):
            extra = fields("worker_failed", study=study, error=event.error)
            _LOGGER.warning("%s: %s", study, event.error, extra=extra)
        elif isinstance(event, TrialStarted):
            extra = fields("trial_started", study=study, trial=event.number, label=event.label)
            _LOGGER.info("%s  %s  started", study, event.label, extra=extra)
        elif isinstance(event, WorkerDied):
            extra = fields("trial_lost", study=study, trial=event.number, label=event.label, error=event.why)
            _LOGGER.warning("%s  %s  returned to the queue: %s", study, event.label, event.why, extra=extra)
        elif isinstance(event, TrialEnded):
            self._ended(queue, event)

    def _ended(self, queue: TrialQueue, event: TrialEnded) -> None:
        monitor = queue.record().monitor
        value = "" if event.value is None else f"  {monitor} {event.value:.4f}"
        extra = fields(
            "trial_ended",
            study=queue.name,
            trial=event.number,
            label=event.label,
            outcome=str(event.outcome),
            monitor=monitor or None,
            value=event.value,
            error=event.error or None,
        )
        message = (
            f"{queue.name}  {event.label}  {event.outcome}{value}{'  ' if event.error else ''}{event.error}"
        )
        _LOGGER.info("%s", message, extra=extra)
