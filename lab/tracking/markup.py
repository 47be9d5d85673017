"""Shows a user's text in Markdown literally."""

from __future__ import annotations

import re

__all__ = ["code", "literal"]

# an underscore within a word, as in `val_loss`, has no meaning
_MARKUP = re.compile(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])")


def literal(text: str) -> str:
    """Return Markdown that shows `text` literally, on one line; also inside a table."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def code(text: str) -> str:
    """Return Markdown that shows `text` as code; not for tables, where code cannot contain a bar."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}"
