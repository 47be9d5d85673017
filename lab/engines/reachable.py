"""Whether the machines of a cluster can reach the stores, as far as their addresses tell."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit

from lab.engines.stores import Stores
from lab.errors import ConfigError
from lab.places import sqlite_file

__all__ = ["check_reachable"]


def check_reachable(stores: Stores, engine: str, machines: Collection[str] | None = None) -> None:
    """Check that workers on other machines can use the stores.

    Args:
        stores: for the workers.
        engine: as it is called in an error.
        machines: where workers may run; None if that is not known, and then only files are refused.

    Raises:
        ConfigError: a store is a SQLite database, or an address that means another machine on each of `machines`.
    """
    for what, url in (("studies", stores.storage), ("runs", stores.tracking_uri)):
        file = sqlite_file(url)
        if file is not None or url.startswith("sqlite"):
            raise ConfigError(
                f"{engine}: the {what} are in {file or url}, which is for one machine only. Start a server for "
                f"several: `lab serve --host {_here()}` (`lab serve --import .lab` takes along what is there)"
            )
    others = sorted(machine for machine in machines or () if not _is_here(machine))
    for url in (stores.storage, stores.tracking_uri):
        if others and _is_loopback(url):
            more = "" if len(others) == 1 else f" and {len(others) - 1:,} more"
            raise ConfigError(
                f"{engine}: {_without_password(url)} is an address of this machine that its nodes ({others[0]}{more}) "
                f"cannot reach. Start the server again with `lab serve --host {_here()}`"
            )


def _here() -> str:
    return socket.gethostname()


def _is_here(machine: str) -> bool:
    return machine.partition(".")[0] in (_here().partition(".")[0], "localhost")


def _is_loopback(url: str) -> bool:
    """Return whether an address means the machine that uses it; a socket file of PostgreSQL does, too."""
    parts = urlsplit(url)
    host = parts.hostname or next(iter(parse_qs(parts.query).get("host", [])), "")
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
