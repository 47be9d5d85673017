"""How counts are worded."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 cell`, `2,000 cells`, `0 studies`, `3 batches`.

    Args:
        number: the count.
        one: the singular, which may be several words (`failed cell`).
        many: the plural, if it is more than a plural ending on the last word (`cells are new`).
    """
    return f"{number:,} {one if number == 1 else many or _plural(one)}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"
