"""Letters that cannot be encoded are written in plain ones, on any stream, by both click and rich."""

from __future__ import annotations

import io
import sys

import click
import pytest
from rich.table import Table

from lab.cli.console import terminal
from lab.letters import in_ascii, write_any_letter


def test_signs_become_what_looks_like_them_and_no_letter_is_lost() -> None:
    assert in_ascii("76.04 % ± 1.2 … a → b × 3 – ┌─┐ █ ⠋") == "76.04 % +- 1.2 ... a -> b x 3 - +-+ # ."
    assert in_ascii("café 猫 \udcff") == "caf\\xe9 \\u732b \\udcff"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_nothing_that_is_printed_raises(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, write_through=True))
    write_any_letter()
    table = Table("name", "±")
    table.add_row("猫 \udcff", "1")
    terminal().print(table)
    click.echo("± … café ─ 猫 \udcff")
    print("±")
    lines = raw.getvalue().decode(encoding).splitlines()
    assert lines[-1] == ("±" if encoding != "ascii" else "+-")
    assert "\\udcff" in lines[-2]
    if encoding == "ascii":
        assert lines[-2] == "+- ... caf\\xe9 - \\u732b \\udcff"
    if encoding != "utf-8":
        assert lines[0].startswith("+-")
        assert "+-" in lines[1]
        assert lines[1].isascii()


def test_a_stream_of_another_kind_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    write_any_letter()
    print("±")
    assert sys.stdout.getvalue() == "±\n"  # type: ignore[attr-defined]
