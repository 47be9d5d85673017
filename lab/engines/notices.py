"""Tells people what becomes of studies, from a thread of its own: no trial and no sweep waits for an address."""

from __future__ import annotations

import queue as queues
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from lab import tracking
from lab.config import NOTIFY_EVENTS, Notify
from lab.engines.links import public_address
from lab.engines.notice_texts import message_of
from lab.errors import LabError
from lab.hooks import Hook, hooks_of, own_sources, unlike
from lab.study import News, Standing, TrialQueue, claim_news, reason
from lab.tracking import Tracker

__all__ = ["Notices", "check_notify"]

_SOON_SECONDS = 1.0  # after something has happened: what happens together is told together
_REGULARLY_SECONDS = 60.0  # between looks at what others do, and at a best that could not be told yet
_SHARE = 20  # of the time goes into looks at most 1/20: a study of thousands of trials takes seconds to read
_LOOK_SECONDS = 60.0  # for the last look, when a sweep has ended: nobody else tells what it notes as told
_END_SECONDS = 5.0  # for the addresses to take the last messages then
_OWN = Notify(to=(), events=NOTIFY_EVENTS)


def check_notify(notifies: Iterable[Notify | None]) -> None:
    """Check that all addresses that grid files and `LAB_NOTIFY` name are there, before anything is spent.

    Raises:
        ConfigError: one is missing, or holds no URL that apprise knows.
        LabError: apprise is not installed.
    """
    named = [source for notify in notifies if notify is not None for source in notify.to]
    for source in dict.fromkeys([*own_sources(), *named]):
        hooks_of(source)


class Notices:
    """Looks at studies of which something is heard, and sends what is new; a context manager.

    Any number of processes may tell of the same study: each thing is told once to each address.

    Args:
        tracker: has the studies' experiments.
        tracking_uri: where it keeps them.
        notifies: by study, who is told besides those of `LAB_NOTIFY`; what the study itself says if None.
        warn: called in the thread that calls `pass_on`, with what keeps somebody from being told.
    """

    def __init__(
        self,
        tracker: Tracker,
        tracking_uri: str,
        notifies: Mapping[str, Notify | None] | None,
        warn: Callable[[str], None],
    ) -> None:
        self._tracker = tracker
        self._tracking_uri = tracking_uri
        self._notifies = notifies
        self._warn = warn
        self._troubles: queues.SimpleQueue[str] = queues.SimpleQueue()
        self._hooks: dict[str, list[Hook]] = {}  # by the name of their addresses
        self._said: dict[str, str] = {}  # by study, what was said last of why nobody can be told
        self._links: dict[str, str] = {}  # by study
        self._heard: dict[str, TrialQueue] = {}  # the studies to look at soon
        self._open: dict[str, TrialQueue] = {}  # those to look at regularly: they were not over
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(0.0 if kind is not None else _END_SECONDS)

    def hear(self, queue: TrialQueue) -> None:
        """Take in that something has happened in a study; return at once."""
        if self._notifies is not None and not any(self._notifies.values()) and not own_sources():
            return
        with self._wake:
            self._heard[queue.name] = queue
            self._wake.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="notices", daemon=True)
            self._thread.start()

    def pass_on(self) -> None:
        """Pass on what keeps somebody from being told."""
        with suppress(queues.Empty):
            while True:
                self._warn(self._troubles.get_nowait())

    def close(self, seconds: float) -> None:
        """Tell what is left to tell; the addresses have at most so much time to take it. With 0, wait for nothing."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(_LOOK_SECONDS if seconds else 0.0)
        until = time.monotonic() + seconds
        for hook in [hook for hooks in self._hooks.values() for hook in hooks]:
            hook.close(max(0.0, until - time.monotonic()))
        self.pass_on()

    def _work(self) -> None:
        regularly, pause, closing = time.monotonic() + _REGULARLY_SECONDS, 0.0, False
        while not closing:
            due, closing = self._await(pause)
            if time.monotonic() >= regularly or closing:
                regularly, due = time.monotonic() + _REGULARLY_SECONDS, {**self._open, **due}
            began = time.monotonic()
            for queue in due.values():
                self._look(queue)
            pause = max(_SOON_SECONDS, _SHARE * (time.monotonic() - began))

    def _await(self, pause: float) -> tuple[dict[str, TrialQueue], bool]:
        """Wait until something was heard, and then a little; return of which studies, and whether it was the last."""
        with self._wake:
            self._wake.wait_for(lambda: self._heard or self._closing, _REGULARLY_SECONDS)
            self._wake.wait_for(lambda: self._closing, pause)
            due, self._heard = self._heard, {}
            return due, self._closing

    def _look(self, queue: TrialQueue) -> None:
        """Send what is new in a study. Whatever goes wrong is said once: it must stop nothing."""
        try:
            followed = self._follow(queue)
            if not followed:
                return
            seen, news = claim_news(queue, followed)
            if seen.over:
                self._open.pop(queue.name, None)
            else:
                self._open[queue.name] = queue
            self._send(queue.name, seen, news, followed)
        except Exception as error:  # noqa: BLE001  # of a database, a tracking store or a library
            said = str(error) if isinstance(error, LabError) else reason(error)
            if self._said.get(queue.name) != said:
                self._said[queue.name] = said
                self._troubles.put(f"{queue.name}: nobody can be told about it now: {said}")

    def _follow(self, queue: TrialQueue) -> Mapping[str, Notify]:
        """Return who is told of a study, by the name of the address, as far as these addresses are known here."""
        named = queue.record().notify if self._notifies is None else self._notifies.get(queue.name)
        wanted = {} if named is None else dict.fromkeys(named.to, named)
        wanted |= {source: _OWN for source in own_sources() if source not in wanted}
        return {source: who for source, who in wanted.items() if self._has(source)}

    def _has(self, source: str) -> bool:
        """Return whether addresses are known here; otherwise say why not, once."""
        if source not in self._hooks:
            self._hooks[source] = []
            try:
                self._hooks[source] = hooks_of(source)
            except LabError as error:
                self._troubles.put(f"{error}. Nothing is sent there from here")
        return bool(self._hooks[source])

    def _send(
        self, study: str, seen: Standing, news: Mapping[str, News], followed: Mapping[str, Notify]
    ) -> None:
        for event in NOTIFY_EVENTS:
            wants = {name for name, who in followed.items() if event in who.events}
            wanting = [name for name, new in news.items() if event in new.events and name in wants]
            if not wanting:
                continue
            message = message_of(event, seen, news[wanting[0]].lost, self._link(study, seen))
            for hook in unlike(hook for name in wanting for hook in self._hooks[name]):
                hook.send(message, self._troubles.put)

    def _link(self, study: str, seen: Standing) -> str:
        """Return the page of a study's experiment, where a server shows it to everybody."""
        if study not in self._links and self._tracking_uri.startswith("http"):
            with suppress(LabError):
                experiment = self._tracker.find_experiment(seen.study.experiment)
                if experiment is not None:
                    page = tracking.study_page(experiment)
                    self._links[study] = f"{public_address(self._tracking_uri).rstrip('/')}{page}"
        return self._links.get(study, "")
