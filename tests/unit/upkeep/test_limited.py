"""A check that raises or hangs yields a finding, after its earlier ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from lab.errors import StudyError
from lab.upkeep.finding import Finding, Verdict
from lab.upkeep.limited import limited

FIRST = Finding("first", Verdict.OK, "fine")


def test_what_a_check_finds_comes_as_it_is() -> None:
    assert list(limited("check", lambda: iter([FIRST, FIRST]), 5.0, "mend")) == [FIRST, FIRST]


def test_an_error_is_a_finding() -> None:
    def explained() -> Iterator[Finding]:
        yield FIRST
        raise StudyError("it is away")

    def unforeseen() -> Iterator[Finding]:
        raise ValueError("what is this")
        yield FIRST

    assert list(limited("check", explained, 5.0, "mend")) == [
        FIRST,
        Finding("check", Verdict.FAILED, "it is away", "mend"),
    ]
    assert list(limited("check", unforeseen, 5.0, "mend")) == [
        Finding("check", Verdict.FAILED, "ValueError: what is this", "mend")
    ]


def test_a_check_that_hangs_is_left() -> None:
    over = threading.Event()

    def hang() -> Iterator[Finding]:
        yield FIRST
        over.wait(60)

    began = time.monotonic()
    found = list(limited("check", hang, 1.0, "mend"))
    assert time.monotonic() - began < 30
    over.set()
    assert found == [FIRST, Finding("check", Verdict.FAILED, "no answer within 1 s", "mend")]
