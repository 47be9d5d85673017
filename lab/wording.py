"""How numbers of things are told."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 cell`, `2,000 cells`, `0 studies`, `3 batches`.

    Args:
        number: of things.
        one: what one of them is called; what stands before it stays as it is (`failed cell`).
        many: what several are called, where not only the last word's ending differs (`cells are new`).
    """
    return f"{number:,} {one if number == 1 else many or _plural(one)}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"
