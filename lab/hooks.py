"""Addresses that people are told at: found where they are kept, and sent to by apprise without making anybody wait.

The address is a secret: no error and no warning repeats it.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.config import variable_of
from lab.errors import ConfigError
from lab.extras import require
from lab.places import absolute_path

__all__ = ["OWN_SOURCE", "Hook", "Message", "hooks_of", "own_sources", "unlike"]

#: Names the addresses that this machine, or this user, wants to have told of every study.
OWN_SOURCE = "$LAB_NOTIFY"

_MOST_WAITING = 50  # messages for an address that answers slowly; after these, new ones are dropped
_HELP = "https://github.com/caronc/apprise/wiki lists them: slack://…, mailto://…, tgram://…, json://…"
_END = None  # in a hook's queue


@dataclass(frozen=True)
class Message:
    """What is sent: a line, and more lines; `kind` is apprise's: info, success, warning or failure."""

    title: str
    body: str
    kind: str = "info"


def own_sources() -> tuple[str, ...]:
    """Return `$LAB_NOTIFY` if that is set, or `LAB_NOTIFY_FILE`; otherwise nothing."""
    return (OWN_SOURCE,) if {"LAB_NOTIFY", "LAB_NOTIFY_FILE"} & os.environ.keys() else ()


def hooks_of(source: str) -> list[Hook]:
    """Return the hooks that an environment variable (`$NAME`) or a file (`file:PATH`) holds the addresses of.

    Raises:
        ConfigError: it does not exist or holds something else.
        LabError: apprise is not installed.
    """
    apprise = require("apprise", "notify", f"notify: {source}")
    _silence()
    asset = apprise.AppriseAsset(app_id="lab", app_desc="lab", async_mode=False)
    addresses = _addresses(source)
    hooks = []
    for number, address in enumerate(addresses, 1):
        plugin = apprise.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
        if plugin is None:
            which = f"its address {number} of {len(addresses)}" if len(addresses) > 1 else "what it holds"
            raise ConfigError(f"notify: {source}: {which} is no URL that apprise knows. {_HELP}")
        hooks.append(Hook(source, plugin))
    return hooks


class Hook:
    """One address. A thread sends what it is given, one after another; an address that is dead keeps nobody waiting.

    Args:
        source: names where the address is kept.
        plugin: apprise's, which knows the address.
    """

    def __init__(self, source: str, plugin: Any) -> None:
        self.source = source
        self._plugin = plugin
        self._messages: queue.Queue[tuple[Message, Callable[[str], None]] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._told = False

    def __str__(self) -> str:
        return f"{self.source} ({self._plugin.service_name})"

    @property
    def address(self) -> str:
        """The address, by which two names of the same one are recognised; secret."""
        return str(self._plugin.url())

    def send(self, message: Message, warn: Callable[[str], None]) -> None:
        """Have a message sent; return at once.

        Args:
            message: the message.
            warn: called from the thread with a sentence, the first time that one could not be sent.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"tells {self.source}", daemon=True)
            self._thread.start()
        try:
            self._messages.put_nowait((message, warn))
        except queue.Full:
            self._fail(warn)

    def close(self, seconds: float) -> bool:
        """Wait for what is being sent, at most so long; return whether all was tried."""
        if self._thread is None:
            return True
        with suppress(queue.Full):
            self._messages.put_nowait(_END)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def deliver(self, message: Message) -> bool:
        """Send a message now, and return whether it was accepted."""
        try:
            return bool(self._plugin.notify(title=message.title, body=message.body, notify_type=message.kind))
        except Exception:  # noqa: BLE001  # whatever a library raises for an address that does not work
            return False

    def _work(self) -> None:
        while (given := self._messages.get()) is not None:
            message, warn = given
            if not self.deliver(message):
                self._fail(warn)

    def _fail(self, warn: Callable[[str], None]) -> None:
        if not self._told:
            self._told = True
            warn(
                f"notify: {self} does not take messages: it cannot be reached, or it refuses them. Nothing else waits "
                "for it; `lab notify` tries it out"
            )


def _addresses(source: str) -> list[str]:
    """Return the addresses that a source holds: words, in lines that do not begin with #."""
    variable = variable_of(source)
    text = _read(source, source.removeprefix("file:")) if variable is None else _value(source, variable)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = [address for address in re.split(r"[\s]+", " ".join(lines)) if address]
    if not found:
        raise ConfigError(f"notify: {source}: it is empty. It must hold a URL that apprise knows. {_HELP}")
    return found


def _value(source: str, variable: str) -> str:
    """Return the value of an environment variable, or what is in the file that `NAME_FILE` names."""
    value, file = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
    if value is not None:
        return value
    if file is not None:
        return _read(f"{source} ({variable}_FILE)", file)
    raise ConfigError(
        f"notify: {source}: the environment variable {variable} is not set. Set it to a URL that apprise knows, as in "
        f"export {variable}='json://127.0.0.1:8000', or {variable}_FILE to a file with one. {_HELP}"
    )


def _read(source: str, file: str) -> str:
    try:
        return absolute_path(Path(file)).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"notify: {source}: the file cannot be read: {why}. It must hold a URL that apprise knows"
        ) from None


def _silence() -> None:
    """Keep apprise from logging, which might show an address."""
    logger = logging.getLogger("apprise")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


def unlike(hooks: Iterable[Hook]) -> list[Hook]:
    """Return the hooks without those of an address that is there already."""
    return list({hook.address: hook for hook in reversed(list(hooks))}.values())[::-1]
