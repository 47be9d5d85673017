"""A user's words in Markdown: as they stand, whatever they would mean there."""

from __future__ import annotations

import re

__all__ = ["code", "literal"]

# an underscore within a word, as in `val_loss`, means nothing
_MARKUP = re.compile(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])")


def literal(text: str) -> str:
    """Return Markdown that shows `text` as it stands, on one line; it may stand in a table."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def code(text: str) -> str:
    """Return Markdown that shows `text` as code; not for tables, which no code may hold a bar in."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}"
