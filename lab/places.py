"""Where a SQLite database is: its absolute address, and whether it was moved or copied there.

A marker file next to the database holds an id and the path at which the database was last opened. If it is at another
path now, it was copied if the old path still has a database with the same id, and moved otherwise.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from lab.errors import ConfigError

__all__ = [
    "Arrival",
    "absolute_address",
    "absolute_path",
    "arrival",
    "has_mark",
    "mark",
    "sqlite_address",
    "sqlite_file",
    "without_queried_password",
]

_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]*)(.*)", re.DOTALL)
# Comes after user name and password, as SQLAlchemy reads them: a password may contain anything but @. What comes after
# a colon in databricks://PROFILE:PREFIX is no port.
_PORT = re.compile(r"(?!databricks)\w[\w+.-]*://(?:[^:/@]*(?::[^@]*)?@)?+(?:\[[^/?]*\]|[^:/?\[]*):([^/?]*)")
_QUERIED = re.compile(r"([?&])(?:(?:ssl)?password=[^&]*(&|$))+")
_IN_COMMON = 2  # names at the end of both paths, `.lab/mlflow.db`, to strip to find the folder that was moved


def absolute_address(address: str) -> str:
    """Return the `address` of a SQLite database with the absolute path of its file, and any other address unchanged.

    Raises:
        ConfigError: the path has an unknown home folder or environment variable, or a `?`, or it is no address: the
            port is not a number, or brackets do not enclose an IPv6 address.
    """
    parts = _parts(address)
    if parts is None:
        _check_host(address)
        return address
    file = os.path.abspath(_expanded(parts.file, address))  # noqa: PTH100  # links stay
    return f"{parts.scheme}{_checked(file)}{parts.query}"


def sqlite_address(file: Path) -> str:
    """Return the address of the SQLite database `file`.

    Raises:
        ConfigError: the path has a `?`.
    """
    return f"sqlite:///{_checked(str(file))}"


def _checked(file: str) -> str:
    if "?" in file:  # a database would be created elsewhere
        raise ConfigError(
            f"{file} contains a ?, at which the path in a SQLite address ends. Rename that folder"
        )
    return file


def _check_host(address: str) -> None:
    port = _PORT.match(address)
    if port and port[1] and not port[1].isdecimal():
        found = "the end of a password, whose @ is to be written as %40" if "@" in port[1] else f"'{port[1]}'"
        raise ConfigError(f"the port of an address is a number, as in http://127.0.0.1:5000, but got {found}")
    try:
        urlsplit(address)
    except ValueError:  # its message may repeat a password
        raise ConfigError(
            "the brackets in an address must enclose an IPv6 address, as in http://[::1]:5000; in a password, write "
            "[ as %5B and ] as %5D"
        ) from None


def absolute_path(folder: Path) -> Path:
    """Return `folder` as an absolute path.

    Raises:
        ConfigError: the path has an unknown home folder or environment variable.
    """
    return Path(os.path.abspath(_expanded(str(folder), str(folder))))  # noqa: PTH100  # links stay


def without_queried_password(address: str) -> str:
    """Return `address` without a password after its `?`, where PostgreSQL's drivers take one too."""
    return _QUERIED.sub(lambda found: found[1] if found[2] else "", address)


def sqlite_file(address: str) -> Path | None:
    """Return the file of a SQLite database; None for any other address and for a database in memory."""
    parts = _parts(address)
    return None if parts is None else Path(parts.file)


@dataclass(frozen=True)
class Arrival:
    """A database that was at the path `old` when it was last opened, and is at `new` now."""

    old: Path
    new: Path
    copied: bool

    @property
    def origin(self) -> Path:
        """The old path of the folder that was moved or copied."""
        return self._folders[0]

    @property
    def home(self) -> Path:
        """The new path of the folder that was moved or copied."""
        return self._folders[1]

    @property
    def _folders(self) -> tuple[Path, Path]:
        old, new = self.old, self.new
        for _ in range(_IN_COMMON):
            if old.name != new.name or old == old.parent or new == new.parent:
                break
            old, new = old.parent, new.parent
        return old, new

    def follow(self, path: Path, *homes: Path) -> Path | None:
        """Return the new path of `path`, or None if it did not come along.

        Args:
            path: the absolute path as it was before.
            homes: folders that count as a part of what came along, whether they exist or not.
        """
        origin, home = self._folders
        if not path.is_relative_to(origin) or (home.is_relative_to(origin) and path.is_relative_to(home)):
            return None
        below = path.relative_to(origin)
        now = home / below
        came = any(now.is_relative_to(each) for each in (self.new.parent, *homes))
        return now if came or (below.parts and (home / below.parts[0]).exists()) else None


class _Mark(NamedTuple):
    id: str
    place: Path


def arrival(database: Path) -> Arrival | None:
    """Return where a database came from; None if it has not moved, or if that is unknown."""
    new, known = database.resolve(), _mark(database)
    if known is None or known.place == new or _same_file(known.place, new):
        return None
    other = _mark(known.place)
    return Arrival(
        known.place, new, copied=known.place.exists() and other is not None and other.id == known.id
    )


def has_mark(database: Path) -> bool:
    """Whether `database` has a marker file."""
    return _mark(database) is not None


def mark(database: Path, *, copied: bool = False) -> None:
    """Record the current path of `database` in its marker file; a copy gets an id of its own.

    Does nothing if the folder cannot be written.
    """
    before = _mark(database)
    new = _Mark(uuid.uuid4().hex if before is None or copied else before.id, database.resolve())
    if new == before:
        return
    file = _file(database)
    with suppress(OSError):
        scratch = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
        scratch.write_text(json.dumps({"id": new.id, "place": str(new.place)}), encoding="utf-8")
        scratch.replace(file)


def _file(database: Path) -> Path:
    resolved = database.resolve()
    return resolved.with_name(f"{resolved.name}.place")


def _mark(database: Path) -> _Mark | None:
    try:
        found = json.loads(_file(database).read_text(encoding="utf-8"))
        return _Mark(str(found["id"]), Path(found["place"]))
    except (OSError, ValueError, TypeError, KeyError):  # no marker file, or not one of lab's
        return None


def _same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, as through a link or a mount."""
    try:
        return one.samefile(other)
    except OSError:
        return False


class _Parts(NamedTuple):
    scheme: str
    file: str
    query: str


def _parts(address: str) -> _Parts | None:
    found = _SQLITE.fullmatch(address)
    if found is None or found[2] in ("", ":memory:") or found[2].startswith("file:"):
        return None
    return _Parts(*found.groups())


def _expanded(path: str, shown: str) -> str:
    """Return `path` with `~` and `$NAME` expanded, as by a shell."""
    expand: tuple[Callable[[str], str], ...] = (os.path.expandvars, os.path.expanduser)
    for each in expand:
        path = each(path)
    if path.startswith(("~", "$")):
        raise ConfigError(f"{shown}: {path.split('/')[0]} is unknown here; write the full path")
    return path
