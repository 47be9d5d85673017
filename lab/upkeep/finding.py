"""What a check found, said so that a person knows what to do next, and never with a password."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from lab.errors import printable

__all__ = ["Finding", "Verdict", "without_secrets"]

_PASSWORD = re.compile(r"(?<=://)([^:/?#@\s]*):[^@\s]*@")
_LONG = 6  # characters of a password that is taken out wherever it stands; a shorter one may be a word


class Verdict(StrEnum):
    """How it stands: `failed` keeps trials from being trained or tracked, a `warning` may do so one day."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What one check found, and unless all is well the one thing to do."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as plain values."""
        return asdict(self)


def without_secrets(text: str, addresses: Sequence[str], others: Sequence[str] = ()) -> str:
    """Return `text` in one line, without the passwords of `addresses` and those in `others`.

    Args:
        text: to be shown.
        addresses: of the stores, perhaps with a password.
        others: passwords and tokens.
    """
    for secret in (*_passwords(addresses), *others):
        text = text.replace(f":{secret}@", ":***@")
        text = text.replace(secret, "***") if len(secret) >= _LONG else text
    return printable(" ".join(_PASSWORD.sub(r"\1:***@", text).split()))


def _passwords(addresses: Sequence[str]) -> list[str]:
    found = []
    for address in addresses:
        try:
            password = urlsplit(address).password
        except ValueError:  # no address at all
            continue
        found += [password, unquote(password)] if password else []
    return found
