"""The address at which a server listens, and the names by which others know it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from lab.errors import ConfigError

__all__ = ["LOOPBACK", "Listening", "listening_at"]

LOOPBACK = "127.0.0.1"
_WILDCARDS = ("0.0.0.0", "::")
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_LOCAL = ("localhost", LOOPBACK, "::1")  # also what a tunnel of ssh calls it


@dataclass(frozen=True)
class Listening:
    """Where a server listens.

    Args:
        bind: the IP address.
        name: what others call it.
        names: everything by which it may be called.
    """

    bind: str
    name: str
    names: tuple[str, ...]

    def url(self, scheme: str, port: int, path: str = "", user: str = "") -> str:
        """Return the address of a service."""
        return f"{scheme}://{user}{'@' if user else ''}{_bracketed(self.name)}:{port}{path}"

    @property
    def here(self) -> str:
        """The address by which this machine reaches it."""
        return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(self.bind, self.bind)

    @property
    def hosts(self) -> str:
        """Patterns of all names, as `mlflow server --allowed-hosts` takes them."""
        patterns = [_bracketed(name).replace("[", "[[]") for name in self.names]
        return ",".join(f"{pattern}{port}" for pattern in patterns for port in ("", ":*"))

    def origins(self, port: int) -> str:
        """Return the origins of the server's own pages, as `mlflow server --cors-allowed-origins` takes them."""
        return ",".join(f"http://{_bracketed(name)}:{port}" for name in self.names)


def listening_at(host: str) -> Listening:
    """Return where a server listens that others call `host`; at all addresses if it is `0.0.0.0` or `::`.

    Raises:
        ConfigError: it is no address of this machine, or one that others do not reach.
    """
    own = _own_addresses()
    if host in _WILDCARDS:
        names = (socket.gethostname(), socket.getfqdn(), *own)
        return Listening(host, _reachable(names), _unique(names))
    bind = _resolved(host)
    if ipaddress.ip_address(bind).is_loopback:
        if host not in _LOCAL:
            raise ConfigError(
                f"--host {host}: means {bind} here, which other machines cannot reach; name one of {_listed(own)}"
            )
        return Listening(bind, bind, _unique(_LOCAL))
    if bind not in own:
        raise ConfigError(
            f"--host {host}: means {bind}, which is no address of this machine; name one of {_listed(own)}"
        )
    return Listening(bind, host, _unique((host, bind, socket.gethostname(), socket.getfqdn())))


def _resolved(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        raise ConfigError(
            f"--host {host}: cannot be found from here; name one of {_listed(_own_addresses())}"
        ) from None


def _reachable(names: Sequence[str]) -> str:
    """Return the first name that stands for an address that others reach, else the first address."""
    for name in names:
        try:
            if not ipaddress.ip_address(_resolved(name)).is_loopback:
                return name
        except ConfigError:
            continue
    return LOOPBACK


def _own_addresses() -> list[str]:
    """Return the addresses of this machine's network interfaces, the loopback and link-local ones left out."""
    found = [
        one.address for each in psutil.net_if_addrs().values() for one in each if one.family in _FAMILIES
    ]
    addresses = [ipaddress.ip_address(each) for each in found if "%" not in each]
    return [str(each) for each in addresses if not (each.is_loopback or each.is_link_local)]


def _listed(addresses: Sequence[str]) -> str:
    return ", ".join(addresses) or LOOPBACK


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *_LOCAL)))


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
