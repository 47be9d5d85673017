"""Tables of images: which columns mean what, and what their rows say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from lab import registry
from lab.config import TrialConfig, composed
from lab.data.encoded import Encoded
from lab.data.listed import Listing
from lab.data.notes import cut, in_classes, left_out_classes, some
from lab.data.split_names import ROLES, Role, split_name
from lab.errors import DataError, printable

__all__ = ["LABELS", "Rows", "composed_text", "find_column", "is_usual", "role_of", "table_notes"]

#: Names of the column with the classes, unless label_column says otherwise.
LABELS: Final = ("label", "class")

_SHOWN = 20


def find_column(
    columns: Sequence[str], given: str | None, setting: str, usual: Sequence[str], where: str
) -> str:
    """Return the name of a column: the `given` one, else the only one with one of the `usual` names.

    Args:
        columns: of the table.
        given: what `setting` says.
        setting: says which column it is.
        usual: names that are recognised, in any case.
        where: the table, for errors, after the kind of dataset.

    Raises:
        DataError: there is no such column, or several, perhaps of the same name.
    """
    name = _named(columns, given, setting, usual, where)
    if columns.count(name) > 1:
        raise DataError(f"{where} has several columns {printable(name)}; rename all but one")
    return name


def _named(columns: Sequence[str], given: str | None, setting: str, usual: Sequence[str], where: str) -> str:
    has = ", ".join(printable(name) for name in columns)
    if given is not None:
        if given not in columns:
            near = registry.suggest(given, columns)
            raise DataError(
                f"{where} has no column '{printable(given)}' ({setting}).{near} Its columns: {has}"
            )
        return given
    found = list(dict.fromkeys(name for name in columns if is_usual(name, usual)))
    if len(found) != 1:
        options = f"--{setting.replace('_', '-')} NAME (`{setting}`)"
        which = (
            f"has several of the columns {', '.join(usual)}"
            if found
            else f"has no column {' or '.join(usual)}"
        )
        raise DataError(f"{where} {which}; name the one to use with {options}. Its columns: {has}")
    return found[0]


def is_usual(name: str, usual: Sequence[str]) -> bool:
    """Whether a column has one of the `usual` names, in any case."""
    return name.strip().lower() in usual


def role_of(text: str) -> Role | None:
    """Return the split that a cell of a split column means; None if it means none of train, val and test."""
    name = split_name(text)
    return name.role if name and not name.rest and name.role in ROLES else None


@dataclass
class Rows:
    """The rows of a table, in its order; errors collect in `faults`.

    Attributes:
        names: what errors call each row's image.
        labels: the class of each row.
        roles: the split of each row; "train" if the table does not say.
        groups: the group of each row; empty if no column has them.
        faults: what is wrong with the table, each with its line or row.
    """

    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, sorted: whole numbers by their value, everything else as text."""
        found = set(self.labels)
        if all(name.isascii() and name.removeprefix("-").isdigit() for name in found):
            return tuple(sorted(found, key=lambda name: (int(name), name)))  # 1 and 01 are two
        return tuple(sorted(found))

    def places(self) -> list[int]:
        """Return the indices of the rows: first those of the training images, then val's, then test's."""
        return [at for role in ROLES for at, mine in enumerate(self.roles) if mine == role]

    def check(self, dataset: str, where: str, classes: Sequence[str]) -> None:
        """Raise a DataError that lists what is wrong with the table, if anything is.

        Args:
            dataset: the kind of dataset.
            where: the table.
            classes: all of its classes.
        """
        faults = self.faults or [*self._class_faults(classes), *self._group_faults()]
        if faults:
            more = [f"… and {len(faults) - _SHOWN:,} more faults"] if len(faults) > _SHOWN else []
            lines = "\n".join([*faults[:_SHOWN], *more])
            raise DataError(f"{dataset}: {where} cannot be used:\n{lines}")

    def listing(
        self, dataset: str, images: Encoded, classes: tuple[str, ...], without: Collection[int] = ()
    ) -> Listing:
        """Return the rows as a listing.

        Args:
            dataset: the kind of dataset.
            images: of the rows, in the order of `places`.
            classes: class names.
            without: places to leave out.

        Raises:
            DataError: a class has no images left to train on.
        """
        places, number = self.places(), {name: at for at, name in enumerate(classes)}
        counts = Counter(self.roles)
        every = Listing(
            dataset,
            classes,
            images,
            tuple(number[self.labels[at]] for at in places),
            counts["train"],
            counts["val"],
            tuple(self.groups[at] for at in places) if self.groups else (),
        )
        return every.without(without) if without else every

    def _class_faults(self, classes: Sequence[str]) -> Iterator[str]:
        trained = {label for label, role in zip(self.labels, self.roles, strict=True) if role == "train"}
        if len(classes) < 2:
            only = f"only {printable(classes[0])}" if classes else "no image"
            yield f"at least 2 classes are needed, but there is {only}"
        twice = [name for name, count in Counter(classes).items() if count > 1]
        if twice:
            yield f"every class needs a name of its own, but several are called {some(twice)}"
        missing = [name for name in classes if name not in trained]
        if missing and self.labels:
            yield f"every class needs training images, but there are none of {some(missing)}"

    def _group_faults(self) -> Iterator[str]:
        roles: dict[str, set[str]] = {}
        for group, role in zip(self.groups, self.roles, strict=bool(self.groups)):
            roles.setdefault(group, set()).add(role)
        for group, found in roles.items():
            if len(found) > 1:
                names = " and ".join(sorted(found, key=ROLES.index))
                yield f"group {printable(group)} is in {names}, but no group may be in two splits"


def table_notes(listing: Listing, config: TrialConfig) -> list[str]:
    """Return how many images of each class each split has, and what the groups are, one line per fact."""
    counts: dict[str, Counter[str]] = {}
    kept = config.classes or listing.classes
    for at, label in enumerate(listing.labels):
        name = listing.classes[label]
        if name in kept:
            counts.setdefault(listing.split(at), Counter())[name] += 1
    lines = [f"{role}: {in_classes(Counter(dict(sorted(each.items()))))}" for role, each in counts.items()]
    lines += cut(counts, config)
    lines += left_out_classes(listing.classes, config)
    if listing.groups:
        sizes = Counter(listing.groups).values()
        lines.append(
            f"groups: {len(sizes):,} ({config.group_column}), of {min(sizes):,} to {max(sizes):,} images"
        )
    for role in ("val", "test"):
        lacking = [name for name in kept if role in counts and name not in counts[role]]
        if lacking:
            lines.append(f"warning: {role} has no images of {some(lacking)}")
    return lines


def composed_text(text: str) -> str:
    """Return a class name in its one spelling: macOS and Linux may spell é with different characters."""
    return composed(text.strip())
