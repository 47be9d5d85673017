"""What `lab worker --metrics` serves to Prometheus."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lab.errors import ConfigError
from lab.study.events import EpochEnded, TrialEnded, TrialStarted, WorkerDied, WorkerFailed

if TYPE_CHECKING:
    from lab.study import Event, TrialQueue

__all__ = ["Metrics", "parse_address", "served"]

_HOST = "127.0.0.1"  # other machines can read the metrics only if --metrics names a host
_INSTALL = "pip install -c constraints.txt -e '.[metrics]'"


class Metrics:
    """Counts what a worker does, in a registry of its own.

    Args:
        undelivered: returns how many writes the tracking server has not acknowledged; called when metrics are read.
        version: of lab.

    Raises:
        ConfigError: the library is not installed.
    """

    def __init__(self, undelivered: Callable[[], int], version: str) -> None:
        library = _library()
        library.disable_created_metrics()  # a second series per counter, of no use
        self.registry = registry = library.CollectorRegistry()
        library.ProcessCollector(registry=registry)
        library.PlatformCollector(registry=registry)
        build = library.Info("lab_build", "Versions of this worker.", registry=registry)
        build.info({"version": version, "python": platform.python_version()})
        self._trials = library.Counter(
            "lab_trials_total",
            "Trials that ended on this worker, by outcome.",
            ["study", "outcome"],
            registry=registry,
        )
        self._running = library.Gauge(
            "lab_trials_running", "Trials that are training on this worker now.", ["study"], registry=registry
        )
        self._epochs = library.Counter(
            "lab_epochs_total", "Epochs trained on this worker.", ["study"], registry=registry
        )
        self._troubles = library.Counter(
            "lab_troubles_total",
            "Number of times that something kept a study from being worked on.",
            registry=registry,
        )
        left = library.Gauge(
            "lab_undelivered_writes",
            "Writes in this machine's journal that the tracking server has not acknowledged.",
            registry=registry,
        )
        left.set_function(undelivered)
        self._now: dict[str, set[int]] = defaultdict(set)  # numbers of the trials running, by study

    def trouble(self, _message: str) -> None:
        """Count what keeps a study from being worked on."""
        self._troubles.inc()

    def event(self, queue: TrialQueue, event: Event) -> None:
        """Count what has happened."""
        if isinstance(event, EpochEnded):
            self._epochs.labels(queue.name).inc()
        elif isinstance(event, TrialStarted):
            self._now[queue.name].add(event.number)
        elif isinstance(event, TrialEnded):
            self._now[queue.name].discard(event.number)
            self._trials.labels(queue.name, str(event.outcome)).inc()
        elif isinstance(event, WorkerDied):
            self._now[queue.name].discard(event.number)
            self._trials.labels(queue.name, "lost").inc()
        elif isinstance(event, WorkerFailed):
            self._troubles.inc()
        self._running.labels(queue.name).set(len(self._now[queue.name]))


@contextmanager
def served(metrics: Metrics, address: str) -> Iterator[str]:
    """Serve `metrics` at `address` from a thread; yield their URL.

    Raises:
        ConfigError: it is not an address, or nothing can listen on it.
    """
    host, port = parse_address(address)
    try:
        server, thread = _library().start_http_server(port, host, metrics.registry)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"--metrics {address} cannot be used: {reason}. Choose another port") from None
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[IPV6]:PORT` or `PORT`, which is on the loopback address.

    Raises:
        ConfigError: it is none of these.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    known = bool(host) == bool(colon) and (bracketed or ":" not in host)
    if not (known and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise ConfigError(
            f"--metrics takes HOST:PORT or PORT, e.g. 127.0.0.1:9100 or 0.0.0.0:9100, but got {address!r}"
        )
    return host.strip("[]") or _HOST, int(port)


def _library() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise ConfigError(
            f"--metrics needs prometheus-client, which is not installed. Install it with: {_INSTALL}"
        ) from None
    return prometheus_client
