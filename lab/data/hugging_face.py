"""Tables in the layouts of Hugging Face: Parquet files, and folders written by `datasets.save_to_disk`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from lab.config import TrialConfig
from lab.data.listed import Listing, unreadable
from lab.data.listed_source import ListedSource
from lab.data.notes import copied, some
from lab.data.rows import Column, Facts, RowImages, columns_of, images_in, read_columns
from lab.data.shards import Shards, parquet_files, saved_files
from lab.data.sizes import Sizes, size_note
from lab.data.split_names import Role
from lab.data.table import LABELS, Rows, composed_text, find_column, is_usual, role_of, table_notes
from lab.errors import DataError, MissingDataError, printable
from lab.wording import counted

__all__ = ["HF", "PARQUET", "forget_rows"]

_KEPT: Final = 2

_Stamps = tuple[tuple[str, int, int, int], ...]
_Key = tuple[object, ...]
_Find = Callable[[Path, TrialConfig], Shards]
_tables: dict[_Key, tuple[_Stamps, _Table]] = {}
_lock = threading.Lock()


@dataclass(eq=False)
class _Table:
    """A data set of rows.

    Attributes:
        dataset: as in the config.
        root: the data folder.
        shards: its files.
        columns: in words, which ones are read.
        rows: what they say.
        classes: class names, indexed by label.
        unused: names of classes that no row has.
        images: of the rows.
        facts: about the image of each row.
    """

    dataset: str
    root: Path
    shards: Shards
    columns: str
    rows: Rows
    classes: tuple[str, ...]
    unused: tuple[str, ...]
    images: RowImages
    facts: list[Facts]

    @property
    def roles(self) -> Collection[str]:
        """The splits."""
        return self.rows.roles

    @cached_property
    def listing(self) -> Listing:
        """The images that can be read; see `Found`."""
        places = self.rows.places()
        bad = {at for at, place in enumerate(places) if place in self.faults}
        return self.rows.listing(self.dataset, self.images.only(places), self.classes, bad)

    @property
    def unreadable(self) -> str:
        """The message about rows that cannot be read as images; empty if all can."""
        if not self.faults:
            return ""
        faults = {self.rows.names[at]: why for at, why in self.faults.items()}
        return unreadable(self.dataset, self.root, faults, len(self.facts))

    @cached_property
    def faults(self) -> dict[int, str]:
        """Why images cannot be read, by row."""
        return {at: each.probe.fault for at, each in enumerate(self.facts) if each.probe.fault}

    @cached_property
    def sizes(self) -> Sizes:
        """Of the images that can be read."""
        return Sizes(each.probe.size for each in self.facts if not each.probe.fault)

    @cached_property
    def copies(self) -> list[list[tuple[str, str, str]]]:
        """Groups of split, class and name of identical images."""
        groups: dict[str, list[int]] = {}
        for at, each in enumerate(self.facts):
            if not each.probe.fault:
                groups.setdefault(each.digest, []).append(at)
        rows = self.rows
        return [
            [(rows.roles[at], rows.labels[at], rows.names[at]) for at in group]
            for group in groups.values()
            if len(group) > 1
        ]


def _notes(found: _Table, config: TrialConfig, size: int) -> tuple[str, ...]:
    lines = [f"read: {some(found.shards.names)} ({found.columns})"]
    lines += table_notes(found.listing, config)
    lines.append(size_note(config, found.sizes, size))
    if found.shards.left_out:
        lines.append(f"left out: {some(found.shards.left_out)}, which are not train, val or test")
    if found.shards.unlabelled:
        lines.append(f"left out: {some(found.shards.unlabelled)}, since no row has a label")
    if found.unused:
        lines.append(f"left out: classes that no row has: {some(found.unused)}")
    if found.faults:
        rows = counted(len(found.faults), "row")
        lines.append(f"left out: {rows} that cannot be read as images (skip_unreadable)")
    return (*lines, *(f"warning: {each}" for each in copied(found.copies, set(found.rows.roles))))


def _table(dataset: str, find: _Find, config: TrialConfig, root: Path, fresh: bool) -> _Table:
    """Return the data set that the config means; this process remembers the latest few, until a file changes.

    Args:
        dataset: as in the config.
        find: returns the files in a data folder.
        config: the settings image_column, label_column, split_column and group_column matter.
        root: the data folder.
        fresh: makes no difference: no file changes without its stamps.

    Raises:
        DataError: it is missing or cannot be used; lists all faults with their files and rows.
    """
    if not root.is_dir():
        raise MissingDataError(f"{dataset}: there is no folder {printable(str(root))}")
    shards = find(root, config)
    columns = (config.image_column, config.label_column, config.split_column, config.group_column)
    key: _Key = (dataset, root, *columns)
    with _lock:
        stamps = _stamps(dataset, root, shards)
        known = _tables.pop(key, None)
        if known is None or known[0] != stamps:
            known = stamps, _read(dataset, config, root, shards)
        _tables[key] = known
        while len(_tables) > _KEPT:
            del _tables[next(iter(_tables))]
        return known[1]


def forget_rows() -> None:
    """Read every Parquet and Arrow file again the next time."""
    with _lock:
        _tables.clear()


def _stamps(dataset: str, root: Path, shards: Shards) -> _Stamps:
    found = []
    for name, role in zip(shards.names, shards.roles, strict=True):
        try:
            status = (root / name).stat()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            message = f"{dataset}: {printable(str(root / name))} cannot be read: {reason}"
            raise MissingDataError(message) from error
        found.append((f"{role} {name}", status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


def _read(dataset: str, config: TrialConfig, root: Path, shards: Shards) -> _Table:
    where = f"{dataset}: {printable(str(root))}"
    use, classes = _columns(config, root, shards, where)
    others = [key for key in ("label", "split", "group") if key in use]
    read = [read_columns(root / name, [use[key] for key in others]) for name in shards.names]
    values = {
        name: dict(zip(others, each, strict=True)) for name, each in zip(shards.names, read, strict=True)
    }
    shards = _labelled(shards, {name: each["label"] for name, each in values.items()}, classes)
    rows, counts = Rows(), [len(values[name]["label"]) for name in shards.names]
    for name, role in zip(shards.names, shards.roles, strict=True):
        _take(rows, name, role, values[name], classes)
    present = set(rows.labels)
    # names of classes, or else what the rows say
    known = tuple(each for each in classes if each in present) if classes else rows.classes
    rows.check(dataset, printable(str(root)), known)
    images = images_in(root, shards.names, use["image"], counts)
    try:
        facts = images.facts()
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error}") from error
    words = ", ".join(f"{key}: {printable(name)}" for key, name in use.items())
    unused = tuple(sorted({*classes} - present))
    return _Table(dataset, root, shards, words, rows, known, unused, images, facts)


def _labelled(shards: Shards, labels: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> Shards:
    """Leave out the files without any label, such as the test split of a competition."""
    blank = {
        name
        for name, role in zip(shards.names, shards.roles, strict=True)
        if role != "train" and labels[name] and all(_is_blank(label, classes) for label in labels[name])
    }
    kept = [pair for pair in zip(shards.names, shards.roles, strict=True) if pair[0] not in blank]
    names, roles = zip(*kept, strict=True) if kept else ((), ())
    return Shards(names, roles, shards.left_out, tuple(sorted(blank)))


def _columns(
    config: TrialConfig, root: Path, shards: Shards, where: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return which columns are read, by their use, and the class names that the files give to numbers, if any.

    Raises:
        DataError: there is no such column, or the files differ in it.
    """
    first, *others = (columns_of(root / name) for name in shards.names)
    names = [each.name for each in first]
    found = {"image": _image_column(config, first, where), "label": _label_column(config, first, where)}
    for key in ("split", "group"):
        given = getattr(config, f"{key}_column")
        if given is not None:
            found[key] = find_column(names, given, f"{key}_column", (), where)
    use = {key: first[names.index(name)] for key, name in found.items()}
    for key, column in use.items():
        if key != "image" and column.kind != "text":
            raise DataError(
                f"{where}: the column {printable(column.name)} ({key}_column) has neither texts nor whole numbers"
            )
    for file, columns in zip(shards.names[1:], others, strict=True):
        for column in use.values():
            if [each for each in columns if each.name == column.name] != [column]:
                raise DataError(
                    f"{where}: the column {printable(column.name)} of {printable(file)} is not as in"
                    f" {printable(shards.names[0])}; all files must have the same columns"
                )
    return found, tuple(map(composed_text, use["label"].classes))


def _image_column(config: TrialConfig, columns: Sequence[Column], where: str) -> str:
    images = list(dict.fromkeys(each.name for each in columns if each.kind == "image"))
    given = config.image_column or (images[0] if len(images) == 1 else None)
    if given is not None:
        name = find_column([each.name for each in columns], given, "image_column", (), where)
        if name not in images:
            raise DataError(f"{where}: the column {printable(name)} (image_column) has no images as bytes")
        return name
    if images:
        several = ", ".join(map(printable, images))
        raise DataError(
            f"{where} has several columns with images ({several}); name one with --image-column (`image_column`)"
        )
    raise DataError(f"{where} has no column with images, as bytes or as {{bytes, path}}")


def _label_column(config: TrialConfig, columns: Sequence[Column], where: str) -> str:
    names = [each.name for each in columns]
    named = [each.name for each in columns if each.classes]
    given = config.label_column
    if given is None and len(named) == 1 and not any(is_usual(name, LABELS) for name in names):
        return named[0]
    return find_column(names, given, "label_column", LABELS, where)


def _take(rows: Rows, name: str, role: Role, values: dict[str, list[Any]], classes: Sequence[str]) -> None:
    """Add the rows of a file, or what is wrong with them."""
    for at, label in enumerate(values["label"]):
        split = values["split"][at] if "split" in values else None
        own = role_of(str(split)) if "split" in values else role
        faults = _label_faults(label, classes)
        if own is None:
            faults.append(f"split '{printable(str(split))}' does not mean train, val or test")
        if "group" in values and values["group"][at] in (None, ""):
            faults.append("has no group")
        if faults or own is None:
            rows.faults += [f"{printable(name)}, row {at}: {fault}" for fault in faults]
            continue
        rows.names.append(f"{name}, row {at}")
        rows.labels.append(classes[label] if classes else composed_text(str(label)))
        rows.roles.append(own)
        if "group" in values:
            rows.groups.append(composed_text(str(values["group"][at])))


def _label_faults(label: Any, classes: Sequence[str]) -> list[str]:
    if _is_blank(label, classes):
        return ["has no label"]
    if classes and not 0 <= label < len(classes):
        return [f"label {label} is not one of the {len(classes):,} classes"]
    return []


def _is_blank(label: Any, classes: Sequence[str]) -> bool:
    return label in (None, "") or bool(classes and label == -1)  # how unlabelled images are marked


PARQUET = ListedSource(partial(_table, "parquet", parquet_files), _notes)
HF = ListedSource(partial(_table, "hf", saved_files), _notes)
