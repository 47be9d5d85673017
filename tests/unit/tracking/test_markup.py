"""A user's words in Markdown."""

from __future__ import annotations

import pytest

from lab.tracking.markup import code, literal

WORDS = {
    "a|b": r"a\|b",
    "[red](http://x) ![x]": r"\[red\](http://x) !\[x\]",
    "<script>": r"\<script\>",
    "*bold* `code` $x_$": r"\*bold\* \`code\` \$x\_\$",
    "val_loss sgd_0.5": "val_loss sgd_0.5",
    "_hidden_ a_": r"\_hidden\_ a\_",
    "two\nlines\\": r"two lines\\",
    "&lt;": r"\&lt;",
}


@pytest.mark.parametrize("words", WORDS)
def test_words_stand_as_they_are(words: str) -> None:
    assert literal(words) == WORDS[words]


def test_code_may_hold_backticks() -> None:
    assert code("lab sweep a.yaml") == "`lab sweep a.yaml`"
    assert code("a`b``c") == "``` a`b``c ```"
