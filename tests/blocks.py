"""The blocks of code in a document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks"]

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_SAVED = re.compile(r"# ([\w-]+\.(?:yaml|py))\n")
_NEEDS = re.compile(r"# needs (.+)\n")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: as after the fence; empty for commands.
        text: all lines.
    """

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name under which the reader saves it, which its first line gives."""
        found = _SAVED.match(self.text)
        return found and found[1]

    @property
    def needs(self) -> str | None:
        """What no test has that could run it, as its first line says."""
        found = _NEEDS.match(self.text)
        return found and found[1]

    @property
    def lines(self) -> list[str]:
        """The commands, each on one line, without comments on lines of their own."""
        joined = self.text.replace("\\\n", "").splitlines()
        return [line.strip() for line in joined if line.strip() and not line.lstrip().startswith("#")]


def blocks(file: Path) -> list[Block]:
    """Return the blocks of a document, without those that Sphinx reads."""
    found = _FENCED.findall(file.read_text(encoding="utf-8"))
    return [
        Block(language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
        for indent, language, text in found
    ]
