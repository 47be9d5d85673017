"""Logs the machine's load during a run, with MLflow's own monitors, without ever breaking or delaying the run."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import mlflow.system_metrics.system_metrics_monitor as theirs

__all__ = ["PREFIX", "LoadMonitor", "next_sample"]

_monitor_class: Any = theirs.SystemMetricsMonitor  # not typed
_LOGGER = logging.getLogger(__name__)
_INTERVAL = 5.0  # seconds between samples; one takes about 10 ms on SQLite
_SHORTEST = 1.0  # seconds that a run must last to get a closing sample
PREFIX = "system/"


class _Log(Protocol):
    def __call__(self, metrics: Mapping[str, float], step: int) -> None: ...


def next_sample(steps: Mapping[str, int]) -> int:
    """Return the step of the next sample in a run, given the last step of each of its metrics."""
    return max((step + 1 for name, step in steps.items() if name.startswith(PREFIX)), default=0)


class LoadMonitor:
    """Logs `system/*` metrics of a run from its own thread, until it is stopped.

    Args:
        log: writes the values of one step to the run.
        first: step of the first sample.
    """

    def __init__(self, log: _Log, first: int = 0) -> None:
        self._log = log
        self._step = first
        self._begin = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system metrics", daemon=True)
        self._parts: list[Any] = []
        try:
            # only its readers are used: its own thread gives up when a server does not answer
            self._parts = _monitor_class("", tracking_uri="http://127.0.0.1:9").monitors
        except Exception as error:  # noqa: BLE001  # the run must go on without them
            _LOGGER.warning("No system metrics: %s", error)
        else:
            self._thread.start()

    def stop(self) -> None:
        """Log a closing sample, so that a run shorter than the interval has one too, and stop."""
        if self._stopped.is_set() or not self._parts:
            return
        self._stopped.set()
        self._thread.join()
        if time.monotonic() - self._begin >= _SHORTEST:
            for part in self._parts:
                part.clear_metrics()  # values from the start of the interval
            self._sample()

    def _work(self) -> None:
        self._collect()
        while not self._stopped.wait(_INTERVAL):
            self._sample()
            self._collect()

    def _collect(self) -> None:
        with contextlib.suppress(Exception):
            for part in self._parts:
                part.collect_metrics()

    def _sample(self) -> None:
        with contextlib.suppress(Exception):
            if not any(part.metrics for part in self._parts):
                self._collect()
            values = {name: value for part in self._parts for name, value in part.aggregate_metrics().items()}
            self._log({PREFIX + name: value for name, value in values.items()}, self._step)
            self._step += 1
            for part in self._parts:
                part.clear_metrics()
