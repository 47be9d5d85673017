"""Signals are the main thread's; what runs in another goes without."""

from __future__ import annotations

import signal
import threading

from lab.cli.signals import SignalStop, stop_on_signals


def test_a_thread_goes_without_signals() -> None:
    before, found = signal.getsignal(signal.SIGTERM), list[SignalStop]()

    def run() -> None:
        with stop_on_signals("") as stop:
            found.append(stop)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [stop() for stop in found] == [False]
    assert signal.getsignal(signal.SIGTERM) is before
