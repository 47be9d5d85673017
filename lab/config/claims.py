"""Claims of a report about the test accuracy of a grid's cells, which `lab results` judges by the study's own runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lab.config.selection import Selection

__all__ = ["SAYINGS", "Claim", "ClaimEntry", "Saying"]

Saying = Literal["beats", "same_as", "no_better_than", "rising", "below", "outcome"]
#: The keys of which a claim has one: what it says about its cells.
SAYINGS: Final[tuple[Saying, ...]] = get_args(Saying)

_WITH_MARGIN: Final = ("same_as", "no_better_than")
_Fraction = Annotated[float, Field(gt=0, lt=1)]


class ClaimEntry(BaseModel):
    """What a report claims about some cells."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    claim: Annotated[str, Field(min_length=1, max_length=200)]
    """The claim in words."""
    cells: dict[str, Any] = {}
    """The cells that it is about: keys, and the values of which a cell must have one."""
    beats: dict[str, Any] | None = None
    """Cells that are worse."""
    same_as: dict[str, Any] | None = None
    """Cells that are neither better nor worse by more than `within`."""
    no_better_than: dict[str, Any] | None = None
    """Cells that are not worse by more than `within`."""
    within: _Fraction | None = None
    """The difference in test accuracy that does not matter: 0.01 is one point."""
    rising: dict[str, Any] | None = None
    """A key with values in an order in which each is better than the one before."""
    below: _Fraction | None = None
    """A test accuracy that each of the cells stays below."""
    outcome: str | None = None
    """How every trial of the cells ends."""
    note: Annotated[str, Field(max_length=500)] = ""
    """A remark on the claim."""

    @property
    def says(self) -> Saying:
        """The one key that says something about the cells."""
        return next(name for name in SAYINGS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _says_one_thing(self) -> ClaimEntry:
        if [getattr(self, name) is None for name in SAYINGS].count(False) != 1:
            raise ValueError(f"must have one of {', '.join(SAYINGS)}")
        if self.says in _WITH_MARGIN and self.within is None:
            raise ValueError(
                f"{self.says} needs within, the difference that does not matter: 0.01 is one point"
            )
        if self.says not in _WITH_MARGIN and self.within is not None:
            raise ValueError(f"within only goes with {' and '.join(_WITH_MARGIN)}, not with {self.says}")
        if self.says in ("beats", *_WITH_MARGIN) and not (self.cells and getattr(self, self.says)):
            raise ValueError(f"must name the cells on both sides, under cells and under {self.says}")
        if self.rising is not None and len(self.rising) != 1:
            raise ValueError("must have one key under rising, with its values in order")
        return self


@dataclass(frozen=True)
class Claim:
    """A claim, checked against the dimensions of its grid.

    Attributes:
        text: the claim in words.
        says: what it says about its cells.
        cells: the cells that it is about.
        pairs: the comparisons that must all hold, each of the better, or of the same, with the other side.
        limit: of `same_as` and `no_better_than` the margin, of `below` the accuracy; a fraction.
        outcome: that all trials have.
        note: a remark.
    """

    text: str
    says: Saying
    cells: Selection
    pairs: tuple[tuple[Selection, Selection], ...] = ()
    limit: float = 0.0
    outcome: str = ""
    note: str = ""
