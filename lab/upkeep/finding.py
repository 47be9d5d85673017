"""What a check found and what to do about it, without passwords."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, unquote, urlsplit

from lab.errors import printable

__all__ = ["Finding", "Verdict", "without_secrets"]

_PASSWORD = re.compile(r"(?<=://)([^:/?#@\s]*):[^@\s]*@")
_LONG = 6  # characters from which a password is removed anywhere in a text; a shorter one may be a word


class Verdict(StrEnum):
    """The result of a check: `failed` keeps trials from being trained or tracked; a `warning` may do so later."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """What one check found and, unless all is well, what to do about it."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain values."""
        return asdict(self)


def without_secrets(text: str, addresses: Sequence[str], others: Sequence[str] = ()) -> str:
    """Return `text` on one line, without the passwords in `addresses` and `others`.

    Args:
        text: the text to show.
        addresses: addresses of the stores, which may contain passwords.
        others: passwords and tokens.
    """
    for secret in (*_passwords(addresses), *others):
        text = text.replace(f":{secret}@", ":***@")
        if len(secret) >= _LONG:
            text = _anywhere(secret).sub("***", text)
    return printable(" ".join(_PASSWORD.sub(r"\1:***@", text).split()))


def _anywhere(secret: str) -> re.Pattern[str]:
    """Return what finds a password in a text; one of letters only as a whole word: `postgres`, not in `postgresql`."""
    if not secret.isalpha():
        return re.compile(re.escape(secret))
    return re.compile(rf"(?:(?<![^\W_])|(?<=%[0-9A-Fa-f]{{2}})){secret}(?![^\W_])")


def _passwords(addresses: Sequence[str]) -> list[str]:
    found = []
    for address in addresses:
        try:
            parts = urlsplit(address)
            password = parts.password
        except ValueError:  # not an address
            continue
        found += [password, unquote(password)] if password else []
        found += [value for name, value in parse_qsl(parts.query) if name in ("password", "sslpassword")]
    return found
