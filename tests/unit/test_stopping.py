from __future__ import annotations

import signal
import threading
import time

from lab.stopping import Stop


def test_it_is_asked_for_once_and_for_good() -> None:
    stop = Stop()
    assert not stop()
    assert not stop.wait(0.01)
    stop.ask()
    stop.ask()
    assert stop()
    assert stop.wait(60)
    assert stop.wait(60)


def test_all_who_wait_are_woken() -> None:
    stop = Stop()
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda: woken.append(stop.wait(60))) for _ in range(8)]
    for thread in threads:
        thread.start()
    stop.ask()
    for thread in threads:
        thread.join(60)
    assert woken == [True] * 8


def test_a_signal_handler_wakes_the_thread_that_it_interrupts() -> None:
    stop = Stop()
    before = signal.signal(signal.SIGALRM, lambda number, frame: stop.ask())
    began = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert stop.wait(60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 30
