from __future__ import annotations

import pytest

from lab.wording import counted


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (1, ("cell",), "1 cell"),
        (0, ("failed cell",), "0 failed cells"),
        (2000, ("study",), "2,000 studies"),
        (3, ("batch",), "3 batches"),
        (2, ("day",), "2 days"),
        (1, ("cell is new", "cells are new"), "1 cell is new"),
        (2, ("cell is new", "cells are new"), "2 cells are new"),
    ],
)
def test_one_is_not_many(number: int, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text
