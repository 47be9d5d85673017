"""The machine's load beside a run: MLflow's own monitor, kept from ever breaking or delaying the run."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

import mlflow.system_metrics.system_metrics_monitor as theirs

__all__ = ["LoadMonitor"]

_monitor_class: Any = theirs.SystemMetricsMonitor  # not typed
_LOGGER = logging.getLogger(__name__)
_INTERVAL = 5.0  # seconds between samples; one takes about 10 ms on SQLite
_SHORTEST = 1.0  # seconds that a run must last to be worth its closing sample


class LoadMonitor:
    """Logs `system/*` metrics to a run from its own thread, until it is stopped."""

    def __init__(self, run_id: str, tracking_uri: str, *, resume: bool) -> None:
        """Start it; with `resume` its steps continue those that the run already has."""
        self._begin = time.monotonic()
        self._monitor: Any = None
        try:
            self._monitor = _monitor_class(
                run_id, sampling_interval=_INTERVAL, resume_logging=resume, tracking_uri=tracking_uri
            )
            self._monitor.start()
        except Exception as error:  # noqa: BLE001  # the run matters, its side show does not
            _LOGGER.warning("No system metrics: %s", error)

    def stop(self) -> None:
        """Log a closing sample, so that a run shorter than the interval has one too, and stop."""
        monitor, self._monitor = self._monitor, None
        if monitor is None:
            return
        with contextlib.suppress(Exception):
            monitor.finish()
            if time.monotonic() - self._begin >= _SHORTEST:
                for part in monitor.monitors:
                    part.clear_metrics()  # what was collected at the start of the interval
                monitor.collect_metrics()
                monitor.publish_metrics(monitor.aggregate_metrics())
                monitor.mlflow_logger.flush()
