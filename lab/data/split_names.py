"""Folder names that mean splits of a dataset: `train`, `Testing`, `seg_test`, `valid`, `test_set` …"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

__all__ = ["ROLES", "Role", "SplitName", "split_name"]

#: What the images of a split are for; `unknown` for folds and similar.
Role = Literal["train", "val", "test", "unlabelled", "unknown"]

#: The splits that lab trains on and evaluates, in their order.
ROLES: Final[tuple[Role, ...]] = ("train", "val", "test")

_WORDS: Final[Mapping[Role, str]] = {
    "train": "train training trn trainval",
    "val": "val valid validate validating validation dev devel development eval evaluation",
    "test": "test testing tst holdout",
    "unlabelled": "pred predict prediction predictions unlabeled unlabelled unsupervised",
    "unknown": "fold folds cv kfold split splits part partition subset labeled labelled supervised",
}
_ROLE_OF: Final[Mapping[str, Role]] = {word: role for role, words in _WORDS.items() for word in words.split()}

# what may accompany such a word without saying what the images show
_FILLER: Final = re.compile(
    r"sets?|data|datasets?|images?|imgs?|pictures?|photos?|pics?|files?|folder|dir|seg|class|classes|ilsvrc|final|new"
    r"|samples?|\d+"
)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class SplitName(NamedTuple):
    """What a folder's name says: which split, and of what (`cats` in `cats_train`; usually nothing)."""

    role: Role
    rest: str


def split_name(name: str) -> SplitName | None:
    """Return which split a folder's name means; None if it means none."""
    words = [part for word in _WORD.findall(name) for part in _apart(word.lower())]
    found = [word for word in words if word in _ROLE_OF]
    if not found:
        return None
    roles = {_ROLE_OF[word] for word in found}
    if len(roles) > 1:
        roles.discard("unknown")  # `train_split` is not a fold
    rest = [word for word in words if word not in found and not _FILLER.fullmatch(word)]
    return SplitName(roles.pop() if len(roles) == 1 else "unknown", " ".join(rest))


def _apart(word: str) -> list[str]:
    """Return `trainset` as `train` and `set`."""
    for end in range(3, len(word) - 1):
        one, two = word[:end], word[end:]
        if (one in _ROLE_OF and _FILLER.fullmatch(two)) or (_FILLER.fullmatch(one) and two in _ROLE_OF):
            return [one, two]
    return [word]
