"""Where a SQLite database lies: its address whatever the working directory, and whether it was moved or copied there.

A mark beside the database names the place where it was last opened, and an id. Where the two places differ and the
old one still has a database with this id, the new one is a copy; else it was moved.
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

from lab.errors import ConfigError

__all__ = ["Arrival", "absolute_address", "absolute_path", "arrival", "has_mark", "mark", "sqlite_file"]

_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]*)(.*)", re.DOTALL)
_IN_COMMON = (
    2  # names at the end of two places, `.lab/mlflow.db`, that may be left out to find what was moved
)


def absolute_address(address: str) -> str:
    """Return the `address` of a database with the whole path of its file, if it is SQLite's; any other as it is.

    Raises:
        ConfigError: its path has a home folder or an environment variable that is not known.
    """
    parts = _parts(address)
    if parts is None:
        return address
    return f"{parts.scheme}{os.path.abspath(_expanded(parts.file, address))}{parts.query}"  # noqa: PTH100


def absolute_path(folder: Path) -> Path:
    """Return `folder` whatever the working directory will be.

    Raises:
        ConfigError: its path has a home folder or an environment variable that is not known.
    """
    return Path(os.path.abspath(_expanded(str(folder), str(folder))))  # noqa: PTH100  # links stay links


def sqlite_file(address: str) -> Path | None:
    """Return the file of a SQLite database, None for any other address and for one in memory."""
    parts = _parts(address)
    return None if parts is None else Path(parts.file)


@dataclass(frozen=True)
class Arrival:
    """A database that lies in another place, `new`, than when it was last opened, `old`; both are files."""

    old: Path
    new: Path
    copied: bool

    @property
    def origin(self) -> Path:
        """The folder that was moved or copied, as it was called."""
        return self._folders[0]

    @property
    def home(self) -> Path:
        """The folder that was moved or copied, as it is called now."""
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
        """Return where `path` lies now, None if it did not come along.

        Args:
            path: absolute, as it was before.
            homes: folders that are taken for a part of what came along, whether they are there or not.
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
    """Return whence a database came, None where it is where it was, or where nothing is known of that."""
    new, known = database.resolve(), _mark(database)
    if known is None or known.place == new or _same_file(known.place, new):
        return None
    other = _mark(known.place)
    return Arrival(
        known.place, new, copied=known.place.exists() and other is not None and other.id == known.id
    )


def has_mark(database: Path) -> bool:
    """Whether it is known where `database` was last opened."""
    return _mark(database) is not None


def mark(database: Path, *, copied: bool = False) -> None:
    """Note that `database` lies where it lies; a copy is another one from now on.

    Nothing happens where nothing may be written.
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
    except (OSError, ValueError, TypeError, KeyError):  # none, or somebody else's
        return None


def _same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, as through a link or a mount."""
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
    """Return `path` with `~` and `$NAME` replaced, as a shell would have done."""
    expand: tuple[Callable[[str], str], ...] = (os.path.expandvars, os.path.expanduser)
    for each in expand:
        path = each(path)
    if path.startswith(("~", "$")):
        raise ConfigError(f"{shown}: {path.split('/')[0]} is not known here; write the whole path")
    return path
