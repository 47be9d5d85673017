"""Ctrl-C and SIGTERM ask for a clean stop; a second Ctrl-C does not wait."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from lab.stopping import Stop

__all__ = ["SignalStop", "stop_on_signals"]

_ONE_PRESS = 1.0  # seconds within which signals belong to one press of Ctrl-C


class SignalStop(Stop):
    """A stop that a signal asks for; knows which."""

    def __init__(self) -> None:
        super().__init__()
        self._signal = 0
        self._at = 0.0

    def ask_by(self, number: int) -> None:
        """Ask for the stop because of a signal."""
        self._signal, self._at = number, time.monotonic()
        self.ask()

    @property
    def is_recent(self) -> bool:
        """Whether another signal may still belong to the same press of Ctrl-C."""
        return time.monotonic() - self._at <= _ONE_PRESS

    @property
    def exit_code(self) -> int:
        """The exit code that shells expect of a process stopped by that signal."""
        return 128 + self._signal


@contextmanager
def stop_on_signals(message: str, say: Callable[[str], None] | None = None) -> Iterator[SignalStop]:
    """Yield a stop that the first SIGINT or SIGTERM asks for.

    Another SIGINT raises KeyboardInterrupt, unless it comes at once: `mlflow run` passes on the terminal's own
    Ctrl-C, and a SIGTERM a quarter of a second later.

    Args:
        message: what to say then; nothing if empty.
        say: how; on stderr by default.
    """
    stop = SignalStop()

    def handle(number: int, _frame: object) -> None:
        if stop():
            if number == signal.SIGINT and not stop.is_recent:
                raise KeyboardInterrupt
            return
        stop.ask_by(number)
        if message:
            (say or _say)(message)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread can handle signals; whatever started this one does
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(message: str) -> None:
    click.echo(f"\n{message}", err=True)  # after the terminal's ^C
