"""Ctrl-C and SIGTERM ask for a stop in good order; a second one does not wait."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click

__all__ = ["Stop", "stop_on_signals"]


@dataclass
class Stop:
    """Whether a signal has asked for a stop, and which."""

    signal: int | None = None

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What shells expect of a process that a signal stopped."""
        return 128 + (self.signal or 0)


@contextmanager
def stop_on_signals(message: str) -> Iterator[Stop]:
    """Yield a `Stop` that the first SIGINT or SIGTERM sets, saying `message`; the second raises KeyboardInterrupt."""
    stop = Stop()

    def handle(number: int, _frame: object) -> None:
        if stop():
            raise KeyboardInterrupt
        stop.signal = number
        click.echo(f"\n{message}", err=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
