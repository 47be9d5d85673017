"""The connection to a Ray cluster, or to a Ray that is started on this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.errors import ResourceError
from lab.extras import require

__all__ = ["RayCluster"]

_LOCAL = "local"
_CONNECT_SECONDS = 10.0
_OBJECT_STORE_BYTES = 80_000_000  # about the least that Ray takes: events are small
_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^/\s]+):(?P<port>\d{1,5})(?:/.*)?")
_TOKEN = "set RAY_AUTH_MODE=token, and put the cluster's token into ~/.ray/auth_token or RAY_AUTH_TOKEN"
# read by Ray when it is imported or connects; what the environment says has precedence
_HERE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 0: it listens on the loopback address alone, on Linux, too
}
_PATIENCE = {"RAY_NUM_REDIS_GET_RETRIES": "4", "RAY_py_gcs_connect_timeout_s": "5"}  # for a wrong address


class RayCluster:
    """Ray, connected.

    A program that is connected already stays so; otherwise this connects it, until `close`.

    Args:
        address: `host:port` of a cluster, `ray://host:port` of its client server, `auto` for any that has a node on
            this machine, `local` for one of this program alone. None, as in Ray, for the one that `RAY_ADDRESS` names
            or that `ray start` has started on this machine, and otherwise for one of this program alone.

    Raises:
        LabError: Ray is not installed, or the cluster cannot be reached or used.
    """

    def __init__(self, address: str | None = None) -> None:
        address = address or os.environ.get("RAY_ADDRESS") or _started_here() or _LOCAL
        for name, value in (_HERE if address == _LOCAL else _PATIENCE).items():
            os.environ.setdefault(name, value)
        self.ray: Any = require("ray", "ray", "--on ray")
        self._connected = False
        if not self.ray.is_initialized():
            _check_reachable(address)
            self._connect(address)
            self._connected = True

    def close(self) -> None:
        """Disconnect, and end a Ray that was started for this."""
        if self._connected:
            self._connected = False
            self.ray.shutdown()

    @property
    def is_here(self) -> bool:
        """Whether all its nodes are this machine."""
        return all(node["NodeManagerHostname"] == socket.gethostname() for node in self.nodes())

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Raise a `ResourceError` if the cluster does not answer inside the block."""
        try:
            yield
        except (ConnectionError, self.ray.exceptions.RayError) as error:
            raise ResourceError(f"The Ray cluster does not answer: {_on_one_line(error)}") from error

    def nodes(self) -> list[Mapping[str, Any]]:
        """Return its living nodes; raises like `asked`."""
        with self.asked():
            return [node for node in self.ray.nodes() if node["Alive"]]

    def living(self) -> set[str]:
        """Return the ids of its living nodes."""
        return {node["NodeID"] for node in self.nodes()}

    def resource(self, name: str) -> float:
        """Return how much of a resource all nodes have together."""
        return float(self.ray.cluster_resources().get(name, 0.0))

    def fits(self, demand: Mapping[str, float]) -> bool:
        """Return whether any node has as much of each resource, if nothing else ran there."""
        return any(
            all(node["Resources"].get(name, 0.0) >= amount for name, amount in demand.items())
            for node in self.nodes()
        )

    def _connect(self, address: str) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address == _LOCAL:
            options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        try:
            with _handling_signals():
                self.ray.init(address, **options)
        except (Exception, SystemExit) as error:
            raise ResourceError(_explained(address, error)) from error
        # what raylets report would go to standard output, into the table or between lines of JSON
        self.ray._private.worker._worker_logs_enabled = False


def _started_here() -> str | None:
    """Return the address of the cluster that `ray start` has last started on this machine, if it still runs."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        address = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
        _check_reachable(address)
    except (OSError, ResourceError):
        return None
    return address


def _check_reachable(address: str) -> None:
    """Raise if nothing listens at an address: Ray itself would try for minutes."""
    if address in (_LOCAL, "auto"):
        return
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ResourceError(
            "--address takes host:port of a Ray cluster, ray://host:port of its client server, or auto, but got "
            f"{address!r}"
        )
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"No Ray answers at {address}: {error}. Check the head node's address: its port is 6379, or 10001 with "
            "ray://, unless `ray start` was given others"
        ) from None


def _explained(address: str, error: BaseException) -> str:
    said = _on_one_line(error)
    if "ersion mismatch" in said:
        return f"The Ray cluster at {address} needs the Ray and Python that it runs: {said}"
    if "ray[client]" in said:
        return f"{address} needs Ray's client: pip install 'lab[ray]'"
    if address == _LOCAL:
        return f"Ray cannot be started here: {said}"
    if "uthentication" in said:  # Ray's own advice is to generate a token, but this cluster has one already
        said, advice = said.partition(". ")[0], f"The cluster needs its token: {_TOKEN}"
    else:  # a refused token, too, looks to Ray's client like no answer
        advice = (
            f"Check the address, and `ray status` on its head node; if the cluster needs a token, {_TOKEN}"
        )
    return f"Ray at {address} cannot be used: {said.rstrip('.')}. {advice}"


def _on_one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:6]) or type(error).__name__


@contextmanager
def _handling_signals() -> Iterator[None]:
    """Keep what this program does on SIGTERM and SIGINT: Ray would exit at once on the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for name, handler in before.items():
            if handler not in (signal.SIG_DFL, None):
                signal.signal(name, handler)
