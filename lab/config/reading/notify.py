"""Who is told of a study: `notify:` of a grid file, checked without looking at the secrets that it names."""

from __future__ import annotations

from typing import Any, Final

from lab.config.grid import GridFile
from lab.config.notify import NOTIFY_EVENTS, Notify, is_source
from lab.config.reading.document import Reading, brief
from lab.config.yaml import KeyPath
from lab.registry import suggest

__all__ = ["read_notify"]

_SECRET: Final = (
    "must name where the address is kept, not be the address: it is a secret, and this file is stored with the study."
    " Put it into an environment variable, export LAB_NOTIFY_URL='…', and write $LAB_NOTIFY_URL here; or into a file,"
    " and write file:/run/secrets/hook"
)


def read_notify(reading: Reading, file: GridFile) -> Notify | None:
    """Return who is told, and of what; None if the file does not say."""
    raw, path = file.notify, ("notify",)
    if raw is None:
        return None
    if not isinstance(raw, dict):
        return Notify(_sources(reading, path, raw))
    for key in raw.keys() - {"to", "events"}:
        reading.fault((*path, key), f"unknown key.{suggest(str(key), ('to', 'events'))} Known: to, events")
    events = _events(reading, (*path, "events"), raw.get("events", list(NOTIFY_EVENTS)))
    if "to" not in raw:
        reading.fault(path, "needs `to`, which names where addresses are, as in to: [$TEAM_CHAT]")
        return None
    return Notify(_sources(reading, (*path, "to"), raw["to"]), events)


def _sources(reading: Reading, path: KeyPath, raw: Any) -> tuple[str, ...]:
    found = []
    for place, source in _listed(reading, path, raw):
        if isinstance(source, str) and is_source(source):
            found.append(source)
        else:  # which may be a secret, so it is not repeated
            reading.fault(place, _SECRET)
    return tuple(dict.fromkeys(found))


def _events(reading: Reading, path: KeyPath, raw: Any) -> tuple[str, ...]:
    found = []
    for place, event in _listed(reading, path, raw):
        if event in NOTIFY_EVENTS:
            found.append(event)
        else:
            known = f"{suggest(str(event), NOTIFY_EVENTS)} Known: {', '.join(NOTIFY_EVENTS)}"
            reading.fault(place, f"there is no event {brief(event)}.{known}")
    return tuple(dict.fromkeys(found))


def _listed(reading: Reading, path: KeyPath, raw: Any) -> list[tuple[KeyPath, Any]]:
    """Return each entry and its place; a single one need not be in a list."""
    if not isinstance(raw, list):
        return [(path, raw)]
    if not raw:
        reading.fault(path, "is empty; leave it out, or name at least one")
    return [((*path, index), entry) for index, entry in enumerate(raw)]
