"""The couriers of one process: one for each run that is written to."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from lab.tracking.base import Tracker
from lab.tracking.courier import Courier
from lab.tracking.gate import Gate
from lab.tracking.journal import RunJournal
from lab.tracking.journals import find
from lab.tracking.pending import pending_key

__all__ = ["Couriers"]

Answer = TypeVar("Answer")

_LOCK_PATIENCE = 10.0  # seconds to wait for another process that is just delivering the same run
_STOP_SECONDS = 0.5  # for the threads to put down what they have in hand


class Couriers:
    """Finds the courier of a run, or starts one.

    Args:
        store: that they deliver to.
        folder: of the journals.
        gate: told whether the store answers.
    """

    def __init__(self, store: Tracker, folder: Path, gate: Gate) -> None:
        self._store = store
        self._folder = folder
        self._gate = gate
        self._lock = threading.RLock()
        self._by_key: dict[str, Courier] = {}

    def __iter__(self) -> Iterator[Courier]:
        with self._lock:
            return iter([courier for courier in self._by_key.values() if not courier.has_ended])

    def tell(self, run_id: str | None, message: Callable[[Courier], Answer]) -> tuple[Courier, Answer]:
        """Give the courier of a run a message, a new courier if there is none or it is just ending.

        Args:
            run_id: of the run, None for a new one.
            message: calls a method of the courier; answers with something false if it was not taken.

        Returns:
            The courier, and its answer.

        Raises:
            ResourceError: the journal cannot be made.
        """
        deadline = time.monotonic() + _LOCK_PATIENCE
        while True:
            courier = self._courier(run_id, alongside=time.monotonic() > deadline)
            answer = None if courier is None else message(courier)
            if courier is not None and answer:
                return courier, answer
            time.sleep(0.05)

    def of(self, run_id: str) -> Courier | None:
        """Return the courier of a run, None if this process has none for it at the moment."""
        key = pending_key(run_id)
        return next((one for one in self if (one.run_id == run_id if key is None else one.key == key)), None)

    def flush(self, deadline: float, unanswered: float = math.inf) -> None:
        """Wait until all is delivered, or for a deadline: see `Courier.flush`."""
        for courier in self:
            courier.flush(deadline, unanswered)

    def stop(self) -> None:
        """Stop all of them; what they have not delivered stays in their journals."""
        with self._lock:
            couriers, self._by_key = list(self._by_key.values()), {}
        for courier in couriers:
            courier.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for courier in couriers:
            courier.join(max(0.0, deadline - time.monotonic()))

    def _courier(self, run_id: str | None, *, alongside: bool) -> Courier | None:
        """Return the courier of a run, a new one if there is none.

        None while another process has the journal, unless a new journal may lie `alongside` it.
        """
        with self._lock:
            live = None if run_id is None else self.of(run_id)
            if live is not None:
                return live
            key = self._key(run_id) if run_id and not alongside else None
            place = self._folder / (key or uuid.uuid4().hex)
            found = (place / "journal.db").exists()
            facts = {"store": self._store.uri}
            if run_id and (alongside or pending_key(run_id) is None):
                facts["run_id"] = run_id
            journal = RunJournal.create(place, **facts)
            if journal is None:
                return None
            courier = Courier(journal, self._store, self._gate, fresh=not found)
            closing = [each for each in self._by_key.values() if not each.is_gone]
            self._by_key = {each.key: each for each in (*closing, courier)}
            courier.start()
            return courier

    def _key(self, run_id: str) -> str | None:
        """Return the key of a run's journal, None if it has none here."""
        key = pending_key(run_id)
        if key is not None:
            return key
        folder = find(self._folder, run_id, self._store.uri)
        return None if folder is None else folder.name
