"""The sections of an earlier results document, for the studies whose runs are in other stores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Published", "published"]

_CELL = re.compile(r"(?<!\\)\|")  # `literal` escapes a bar within a cell


@dataclass(frozen=True)
class Published:
    """What a document says about one study, in Markdown.

    `parts` is its section up to the table of its cells, without the comment that follows; `claims` has the cells of its
    row in the table of claims, by the text of the claim.
    """

    parts: tuple[str, ...]
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def published(document: str, name: str) -> Published | None:
    """Return what `document`, from `results_document`, says about the study `name`; None if it has no section of it."""
    start = re.search(rf"^## {re.escape(name)}$", document, re.MULTILINE)
    if start is None:
        return None
    # every section ends with the table of its cells; a heading does not end it, as a description may have one
    generated, _, cells = document[start.start() :].partition("\n### All cells\n")
    parts = [generated, "### All cells", *_up_to_table(cells)]
    rows = (
        [cell.strip() for cell in _CELL.split(line)[1:-1]]
        for line in document.splitlines()
        if f" [{name}](#{name}): " in line
    )
    return Published(tuple(part.strip() for part in parts), {row[0]: tuple(row) for row in rows})


def _up_to_table(text: str) -> list[str]:
    """Return the paragraphs of `text` up to the first table, which is the last of them."""
    paragraphs = text.strip().split("\n\n")
    tables = [at for at, paragraph in enumerate(paragraphs) if paragraph.startswith("|")]
    return paragraphs[: tables[0] + 1] if tables else []
