"""A test message to everybody who would be told of a study."""

from __future__ import annotations

from collections.abc import Iterator

from lab.config import Grid
from lab.errors import ConfigError
from lab.hooks import Message, hooks_of, own_sources

__all__ = ["try_hooks"]

_MESSAGE = Message("lab: a test", "If you read this, lab reaches you: you hear what becomes of studies.")


def try_hooks(grid: Grid | None = None) -> Iterator[tuple[str, bool]]:
    """Send a test message to the addresses that `LAB_NOTIFY` and a grid file's `notify` name.

    Yields:
        The name of each address with its service, and whether it has accepted the message.

    Raises:
        ConfigError: none is named, or one that is named is not there; nothing was sent.
        LabError: apprise is not installed.
    """
    named = grid.notify.to if grid is not None and grid.notify is not None else ()
    sources = dict.fromkeys([*own_sources(), *named])
    if not sources:
        where = "LAB_NOTIFY is not set" + (f", and {grid.file} has no `notify`" if grid is not None else "")
        raise ConfigError(f"No address to notify: {where}")
    for hook in [hook for source in sources for hook in hooks_of(source)]:
        yield str(hook), hook.deliver(_MESSAGE)
