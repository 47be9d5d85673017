"""Ctrl-C and SIGTERM ask for a stop in good order; a second Ctrl-C does not wait."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click

__all__ = ["Stop", "stop_on_signals"]

_ONE_PRESS = 1.0  # seconds within which signals are of one press of Ctrl-C


@dataclass
class Stop:
    """Whether a signal has asked for a stop, and which."""

    signal: int | None = None
    at: float = 0.0

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What shells expect of a process that a signal stopped."""
        return 128 + (self.signal or 0)


@contextmanager
def stop_on_signals(message: str, say: Callable[[str], None] | None = None) -> Iterator[Stop]:
    """Yield a `Stop` that the first SIGINT or SIGTERM sets, saying `message` unless that is empty.

    It is said by `say`, or on stderr.

    Another SIGINT raises KeyboardInterrupt, unless it comes at once: `mlflow run` passes on the terminal's own
    Ctrl-C, and a SIGTERM a quarter of a second later.
    """
    stop = Stop()

    def handle(number: int, _frame: object) -> None:
        if stop():
            if number == signal.SIGINT and time.monotonic() - stop.at > _ONE_PRESS:
                raise KeyboardInterrupt
            return
        stop.signal, stop.at = number, time.monotonic()
        if message:
            (say or _say)(message)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are the main thread's: whoever began this one has them
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(message: str) -> None:
    click.echo(f"\n{message}", err=True)  # after the terminal's ^C
