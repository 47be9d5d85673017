"""The `notify:` of a grid file: who is told of a study, and of what.

An address that apprise sends to holds a secret, and a grid file is kept in databases. So the file only names where the
address is: an environment variable, or a file.

An example::

    notify: $TEAM_CHAT                        # or a list: [$TEAM_CHAT, file:/run/secrets/hook]
    notify:
      to: [$TEAM_CHAT]
      events: [done, failure]                 # default: all of them
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["NOTIFY_EVENTS", "Notify", "is_source", "variable_of"]

#: What people can be told of, in this order: the first trial has failed, a worker was lost, there is a new best, the
#: study is over.
NOTIFY_EVENTS: Final = ("failure", "lost", "best", "done")

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_FILE = re.compile(r"file:(?!//)\S.*")


@dataclass(frozen=True)
class Notify:
    """Who is told: `to` names environment variables (`$NAME`) and files (`file:PATH`) that hold apprise's URLs."""

    to: tuple[str, ...]
    events: tuple[str, ...] = NOTIFY_EVENTS

    def as_values(self) -> dict[str, list[str]]:
        """Return it as plain values, for `from_values` in another process."""
        return {"to": list(self.to), "events": list(self.events)}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Notify | None:
        """Return what `as_values` made `values` of; None if anything else did, such as a newer version of lab."""
        to, events = (values.get(key) for key in ("to", "events"))
        if not (isinstance(to, list) and isinstance(events, list)):
            return None
        sources = tuple(source for source in to if isinstance(source, str) and is_source(source))
        return cls(sources, tuple(event for event in NOTIFY_EVENTS if event in events))


def is_source(text: str) -> bool:
    """Return whether `text` names where an address is, and so is none itself."""
    return variable_of(text) is not None or bool(_FILE.fullmatch(text))


def variable_of(source: str) -> str | None:
    """Return the environment variable that `$NAME` or `${NAME}` names, None if `source` is neither."""
    found = _VARIABLE.fullmatch(source)
    return found and (found[1] or found[2])
