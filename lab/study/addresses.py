"""Addresses of study databases."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from lab.errors import StudyError
from lab.places import without_queried_password

__all__ = ["database_exists", "display_url", "parse_address"]


def parse_address(url: str) -> sa.URL:
    """Return the parts of a database address, with the PostgreSQL driver that lab brings if it names none.

    Raises:
        StudyError: it is not a database address.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise StudyError(
            f"--storage: '{url}' is not a database address; use e.g. sqlite:///studies.db "
            "or postgresql://user@host/database"
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def display_url(url: str) -> str:
    """Return `url` without its password."""
    try:
        return without_queried_password(sa.make_url(url).render_as_string(hide_password=True))
    except sa.exc.ArgumentError:  # `memory`, or a mistake that opening it explains
        return url


def database_exists(url: str) -> bool:
    """Return whether there is anything to open at `url`: looking must not create an SQLite file."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return True  # opening it explains what is wrong
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return True
    file = Path(parsed.database)
    return file.exists() or file.is_symlink()  # a broken link is not a fresh start; opening it says so
