"""Takes what is written to one run and delivers it to the store: in order, and nothing twice."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from lab.errors import ResourceError, TrackingError
from lab.hold import Hold
from lab.identity import ProcessName, process_name
from lab.tracking.base import RunStatus, Tracker, UnavailableError
from lab.tracking.fenced import FencedRun
from lab.tracking.gate import Gate
from lab.tracking.journal import OWNER, Operation, RunJournal
from lab.tracking.pending import pending_key
from lab.tracking.tags import Tag
from lab.tracking.writes import End, Open, Tags, Write, merged
from lab.training import Outcome

__all__ = ["Courier"]

_CLOSE_SECONDS = 10.0  # for a slow disk to take and delete a journal
_STOP_SECONDS = 0.5  # for the thread to put down what it has in hand


class Courier:
    """Keeps one run's journal and delivers it, from its own thread once started or at once (`deliver`).

    It ends by itself when the run is over and all of it is delivered. Whoever writes then needs a new one: `open`,
    `add` and `attend` say so. Its methods may be called from any thread.

    Args:
        journal: of the run; closed in the end.
        tracker: the store.
        gate: told whether the store answers.
        fresh: whether the journal has just been created, so that the store can have nothing of it.
    """

    # seconds before the first and between later tries while the store is unreachable
    first_pause: ClassVar[float] = 1.0
    longest_pause: ClassVar[float] = 30.0
    # seconds for which writes that fit into one request gather, unless another write or somebody waits for them
    gathering: ClassVar[float] = 0.25

    def __init__(
        self, journal: RunJournal, tracker: Tracker, gate: Gate | None = None, *, fresh: bool = False
    ) -> None:
        self._journal = journal
        self._gate = gate or Gate()
        self._run = FencedRun(journal, tracker, fresh=fresh)
        self._is_new = fresh  # and nothing but its first opening has been written
        self._changed = threading.Condition()  # guards what follows
        self._refusal: TrackingError | None = None
        self._opening = 0  # number of the present attempt's first write; earlier refusals are not its own
        self._tries_before = 0  # of that write
        self._tries = 0  # that failed because the store was unreachable
        self._writers = 0  # at the moment
        self._over = False  # whether nothing more is to come
        self._ended = False
        self._stopped = False
        self._offered = threading.Event()
        self._again = threading.Event()  # do not wait for the pause to end
        self._urgent = threading.Event()  # do not wait for more to gather
        self._closing = threading.Event()  # nothing more is delivered; the journal is being closed
        self._thread: threading.Thread | None = None

    @property
    def key(self) -> str:
        """The name of the journal."""
        return self._journal.key

    @property
    def run_id(self) -> str | None:
        """The run's id in the store, None while it has none."""
        return self._journal.known_id

    @property
    def url(self) -> str | None:
        """The page of the run in the MLflow UI, None if no server shows it (yet)."""
        return self._run.url

    @property
    def refusal(self) -> TrackingError | None:
        """Why the store refused a write of the present attempt, None if it refused none."""
        return self._refusal

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more writes."""
        return self._ended or self._stopped or self.is_gone

    @property
    def is_gone(self) -> bool:
        """Whether its thread has ended, and the journal is closed."""
        return self._thread is not None and not self._thread.is_alive()

    def start(self) -> None:
        """Deliver from a thread, for as long as the store needs to take it."""
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def open(self, opening: Open, hold: Hold | None = None) -> str:
        """Keep the opening of a run by a new attempt; return the attempt's name, nothing if this has ended.

        Args:
            opening: without the tags that tell attempts apart.
            hold: that the attempt has on its trial.

        Raises:
            ResourceError: the journal cannot be written.
        """
        attempt = _attempt()
        if hold is not None:
            self._run.register(attempt, hold)
        with self._writing() as is_open, self._changed:
            if not is_open:
                return ""
            self._is_new = self._is_new and not self._opening
            self._over, self._refusal, self._tries_before = False, None, self._tries
            self._opening = self._journal.add(self._marked(opening, attempt))
            self._journal.note("name", opening.name)
            self._journal.note(OWNER, process_name() if _is_alone(opening) else "")
            self._urgent.set()
        return attempt

    def await_opening(self, patience: float) -> None:
        """Wait until the run is open, or the store is found unreachable; at most `patience` seconds.

        Raises:
            TrackingError: the store refused to open it. Nothing of a new run is kept.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._tries > self._tries_before or not self._journal.waiting(self._opening),
                max(0.0, patience),
            )
        if self._refusal is None:
            return
        if self._is_new:
            self._journal.drop()
            self.stop()
            self.join(_STOP_SECONDS)
        raise self._refusal

    def attend(self) -> bool:
        """Expect writes to a run that was opened before; return whether they can come."""
        self._is_new = False
        with self._writing() as is_open:
            return is_open

    def add(self, write: Write) -> bool:
        """Keep a write; return whether it was taken.

        Raises:
            ResourceError: the journal cannot be written.
        """
        self._is_new = False
        with self._writing() as is_open:
            if is_open:
                try:
                    self._journal.add(write)
                    if write.is_final:
                        self._journal.note(OWNER, "")
                finally:
                    self._over = write.is_final
                if not write.is_mergeable:
                    self._urgent.set()
            return is_open

    def put_directly(self, write: Write) -> None:
        """Write to the store what the journal has no room for, if it must be there and the run is open."""
        if write.is_vital:
            self._run.put_unfenced(write)

    def leave(self, attempt: str) -> None:
        """Deliver no more of an attempt that has lost its trial, except metric values that the run lacks."""
        if self.has_ended:
            return
        with suppress(
            ResourceError
        ):  # then the deliverer finds in the store that another attempt has the run
            self._run.lose(attempt)
        self._over = True
        self._offered.set()

    def history(self, metric: str) -> dict[int, float]:
        """Return what this run's journal has of `metric` by step.

        Raises:
            ResourceError: the journal cannot be read, or is closed.
        """
        return self._journal.history(metric)

    def artifact(self, path: str) -> tuple[bool, Path | None]:
        """Return whether a write to the artifact `path` waits, and its file (None if it is to be deleted).

        Raises:
            ResourceError: the journal cannot be read, or is closed.
        """
        return self._journal.artifact(path)

    def deliver(self) -> None:
        """Deliver all that waits, now; refused writes are kept with the reason.

        Raises:
            UnavailableError: the store is unreachable.
            ResourceError: the journal cannot be written.
        """
        while self._step():
            pass

    def end_left(self) -> bool:
        """End the run as KILLED if its owner died before it did; return whether.

        To be called once all has been delivered. The journal is kept until the store has answered.

        Raises:
            TrackingError: the store failed, or is unreachable (`UnavailableError`).
            ResourceError: the journal cannot be written.
        """
        owner = ProcessName.parse(self._journal.fact(OWNER) or "")
        lives = owner is None or (owner.is_here and not owner.is_dead())
        if lives or self._waits():
            return False
        was_running = self._run.is_running()
        if was_running:
            self._journal.add(Tags({Tag.OUTCOME: Outcome.KILLED}))
            self._journal.add(End(RunStatus.KILLED, self._journal.last_logged()))
            self.deliver()
        ended = was_running and not self._run.is_running()  # if not, it has gone on elsewhere
        self._journal.note(OWNER, "")
        return ended

    def flush(self, deadline: float, unanswered: float = math.inf) -> None:
        """Wait until nothing waits, or for a deadline, by the monotonic clock.

        Args:
            deadline: when to stop waiting.
            unanswered: when to stop waiting for a store that does not answer.
        """
        while not self.has_ended and self._waits():
            left = (min(deadline, unanswered) if self._gate.is_shut else deadline) - time.monotonic()
            if left <= 0:
                return
            self._urgent.set()
            self._again.set()
            with self._changed:
                self._changed.wait(min(0.5, left))

    def stop(self) -> None:
        """Take and deliver nothing more; what is on its way may still arrive."""
        self._stopped = True
        self._offered.set()
        self._urgent.set()
        self._again.set()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, at most `timeout` seconds; longer if it only closes its journal."""
        if self._thread is not None and (self._ended or self._closing.wait(timeout)):
            self._thread.join(max(timeout, _CLOSE_SECONDS))

    # the thread

    def _work(self) -> None:
        pause = self.first_pause
        try:
            while not self._stopped:
                try:
                    delivered = self._step()
                except (UnavailableError, ResourceError) as error:
                    if isinstance(error, UnavailableError):
                        self._gate.shut(str(error))
                    self._tell(tried=True)
                    self._again.wait(pause)
                    self._again.clear()
                    pause = min(2 * pause, self.longest_pause)
                    continue
                pause = self.first_pause
                self._tell()
                if not delivered and self._ends():
                    return
                if not delivered:
                    self._gather()
        finally:
            self._closing.set()
            self._journal.close()
            self._tell()

    def _gather(self) -> None:
        """Wait for a write, and then for more that fit into the same request."""
        self._offered.wait()
        if not self._over:
            self._urgent.wait(self.gathering)
        self._urgent.clear()
        self._offered.clear()

    def _tell(self, *, tried: bool = False) -> None:
        with self._changed:
            self._tries += tried
            self._changed.notify_all()

    def _waits(self) -> bool:
        return not self._journal.is_blocked() and self._journal.waiting() > 0

    def _ends(self) -> bool:
        """End if the run is over and nothing waits."""
        with self._changed:
            self._ended = self._over and not self._writers and not self._waits()
            return self._ended

    @contextmanager
    def _writing(self) -> Iterator[bool]:
        """Yield whether writes are taken; it does not end before the block does."""
        with self._changed:
            is_open = not self.has_ended
            self._writers += is_open
        try:
            yield is_open
        finally:
            with self._changed:
                self._writers -= is_open
            self._offered.set()

    def _step(self) -> int:
        """Deliver the next writes that fit into one request; return how many, 0 if nothing waits."""
        operations = [] if self._journal.is_blocked() else self._journal.take()
        if not operations:
            return 0
        if not self._delivered(operations) and len(operations) > 1:
            for operation in operations:  # they were refused together; one of them is the reason
                self._delivered([operation])
        self._gate.open()
        return len(operations)

    def _delivered(self, operations: Sequence[Operation]) -> bool:
        """Deliver writes in one request; return whether the store took them. A single refused one is kept as such."""
        try:
            self._run.put(merged([operation.write for operation in operations]))
        except UnavailableError:
            self._journal.release()
            self._run.doubt()
            raise
        except TrackingError as error:
            if len(operations) == 1:
                self._refused(operations[0], error)
            return False
        except BaseException:
            self._journal.release()
            raise
        self._journal.done(operations)
        return True

    def _refused(self, operation: Operation, error: TrackingError) -> None:
        # before the write counts as refused: whoever waits for that asks for the reason at once
        with self._changed:
            if operation.id >= self._opening:
                self._refusal = error
        self._journal.refuse(operation, str(error))

    def _marked(self, opening: Open, attempt: str) -> Open:
        """Return `opening` with the tags by which its run and its attempt are recognized."""
        pending = pending_key(opening.run_id) if opening.run_id else None
        in_store = opening.run_id is not None and pending is None
        journal = {} if in_store else {Tag.JOURNAL: pending or self.key}
        return replace(opening, tags={**opening.tags, Tag.ATTEMPT: attempt, **journal})


def _is_alone(opening: Open) -> bool:
    """Return whether the run is that of one process, because no study has it."""
    return Tag.STUDY not in opening.tags and opening.tags.get(Tag.KIND) in ("trial", "lr_range")


def _attempt() -> str:
    """Return a new attempt's name; later ones are greater, unless the clocks of two machines differ."""
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
