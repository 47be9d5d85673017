"""What starts, hears and ends workers, wherever they run: the one thing that tells one engine from another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lab.engines.devices import Device
from lab.engines.seats import Seat
from lab.study import Event, WorkerSettings

__all__ = ["Exited", "Launcher"]


@dataclass(frozen=True)
class Exited:
    """The last that is heard of a worker.

    Args:
        code: what its process ended with: 0 when there was nothing left for it to do or it was asked to stop, the
            negative number of the signal that killed it, or another number if it raised.
        error: what it raised, or what the engine says about its end.
        blameless: whether its place was taken away, as by a preemption, a failing node or a time limit: what it
            trained is not to blame then.
    """

    code: int
    error: str = ""
    blameless: bool = False


class Launcher(Protocol):
    """Starts workers on seats and passes on what they say.

    A worker is `lab.study.work(settings, emit, should_stop)`: plain values go in and events come out, in order. A
    launcher does not decide what is trained, or on which seat; who uses it does not know how a worker is started.

    Any method may raise a `LabError` about its engine, which refuses or does not answer. The launcher stays usable:
    what it could not do is asked for again. A worker that was started, and then turns out to get no place, exits.

    Of a worker that the engine itself has started again it passes on `WorkerDied`; the worker keeps its number.
    """

    def devices(self) -> Sequence[Device]:
        """Return what workers can run on."""

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        """Start a worker; return its number, which no other worker of this launcher ever has.

        Raises:
            LabError: it cannot be started, or not now.
        """

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        """Yield what workers have said, with their numbers; of each, `Exited` comes last.

        Args:
            timeout: seconds to wait for something to come.
        """

    def stop(self, worker: int | None = None) -> None:
        """Ask a worker (all if None) to checkpoint, return its trial to the queue and exit; do not wait for it."""

    def kill(self) -> None:
        """End every worker at once, and wait until they are gone; nothing more is heard of them.

        Their trials are left as they are, and lose what was trained since their last checkpoints.
        """

    def pending(self) -> Collection[int]:
        """Return the numbers of the workers that wait for a place to run; stopping one of these takes nothing back."""

    def notes(self) -> Sequence[str]:
        """Return what is to be known about workers that do not run yet, and about their engine, a line each."""

    def __len__(self) -> int:
        """Return how many workers have been started and not been heard to exit."""
