"""Image files listed in a CSV file, with their classes and, if it says so, their splits and groups."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from lab.config import TrialConfig
from lab.data.encoded import ImageFiles
from lab.data.listed import Listing, unreadable
from lab.data.listed_source import ListedSource
from lab.data.notes import copied
from lab.data.probe import Probe, copies, probe
from lab.data.sizes import Sizes, size_note
from lab.data.table import LABELS, Rows, composed_text, find_column, role_of, table_notes
from lab.data.tree import File
from lab.errors import DataError, Fault, MissingDataError, printable
from lab.wording import counted

__all__ = ["IMAGE_CSV", "forget_tables"]

_PATHS: Final = ("path", "file", "filename", "image")
_KEPT = 2
# nanoseconds: a file or folder changed this recently may change again under the same modification time
_TICK = 100_000_000

_Key = tuple[Path, Path, str | None, str | None, str | None, str | None]
_tables: dict[_Key, _Table] = {}
_lock = threading.Lock()


@dataclass(eq=False)
class _Table:
    """A CSV file and the images that it lists.

    Attributes:
        root: the data folder.
        file: the CSV file.
        columns: in words, which ones are read.
        rows: what it says; their names are the paths of the images.
        lines: of each path in the CSV file, by its normal form.
        files: what is known of each image file without reading it, by path.
        probes: what each image file is, by path.
        changed: when the file and the folders of its images were last changed; None if that was only just now.
    """

    root: Path
    file: Path
    columns: str
    rows: Rows
    lines: dict[str, int]
    files: dict[str, File]
    probes: dict[str, Probe]
    changed: dict[str, int] | None = None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.rows.classes

    @property
    def roles(self) -> Collection[str]:
        """The splits."""
        return self.rows.roles

    @cached_property
    def listing(self) -> Listing:
        """The images that can be read; see `Found`."""
        paths = tuple(self.rows.names[at] for at in self.rows.places())
        bad = {at for at, path in enumerate(paths) if path in self.faults}
        return self.rows.listing("image_csv", ImageFiles(self.root, paths), self.classes, bad)

    @property
    def unreadable(self) -> str:
        """The message about files that cannot be read as images, with their lines; empty if all can."""
        if not self.faults:
            return ""
        faults = {
            f"line {self.lines[os.path.normpath(path)]}: {path}": why for path, why in self.faults.items()
        }
        return unreadable("image_csv", self.file, faults, len(self.probes))

    @cached_property
    def faults(self) -> dict[str, str]:
        """Why images cannot be read, by path."""
        return {path: probe.fault for path, probe in self.probes.items() if probe.fault}

    @cached_property
    def sizes(self) -> Sizes:
        """How many images have each width and height in pixels."""
        return Counter(probe.size for probe in self.probes.values() if not probe.fault)

    @cached_property
    def copies(self) -> list[list[tuple[str, str, str]]]:
        """Groups of split, class and path of files with the same content."""
        rows = self.rows
        every = list(zip(rows.roles, rows.labels, rows.names, strict=True))
        sound = [each for each in every if each[-1] not in self.faults]
        groups = copies(self.root, [self.files[path] for *_, path in sound])
        return [[sound[at] for at in group] for group in groups]


def forget_tables() -> None:
    """Read every CSV file again the next time."""
    with _lock:
        _tables.clear()


def _notes(found: _Table, config: TrialConfig, size: int) -> tuple[str, ...]:
    lines = [f"read: {printable(found.file.name)} ({found.columns})"]
    lines += table_notes(found.listing, config)
    lines.append(size_note(config, found.sizes, size))
    if found.faults:
        files = counted(len(found.faults), "file")
        lines.append(f"left out: {files} that cannot be read as images (skip_unreadable)")
    return (*lines, *(f"warning: {each}" for each in copied(found.copies, set(found.rows.roles))))


def _table(config: TrialConfig, root: Path, fresh: bool) -> _Table:
    """Return the table that the config names, and what its images are.

    This process remembers the latest few, and reads one again once it or a folder of its images has changed.

    Args:
        config: the settings csv_file, path_column, label_column, split_column and group_column matter.
        root: the data folder.
        fresh: also notice images that were overwritten in place.

    Raises:
        DataError: it is missing or cannot be used; lists all faults with their lines.
    """
    file = _file(config, root)
    columns = (config.path_column, config.label_column, config.split_column, config.group_column)
    key: _Key = (root, file, *columns)
    with _lock:
        known = _tables.get(key)
        if known is None or fresh or known.changed is None or known.changed != _stamps(known.changed):
            known = _read(config, root, file, known)
        _tables.pop(key, None)
        _tables[key] = known
        while len(_tables) > _KEPT:
            del _tables[next(iter(_tables))]
        return known


def _file(config: TrialConfig, root: Path) -> Path:
    if not root.is_dir():
        raise MissingDataError(f"image_csv: there is no folder {printable(str(root))}")
    if config.csv_file is not None:
        file = root / Path(config.csv_file).expanduser()
        if not os.path.isfile(file):  # False for a name that is too long
            raise MissingDataError(f"image_csv: there is no file {printable(str(file))} (csv_file)")
        return file
    files = sorted(file for file in root.glob("*.csv") if not file.name.startswith("."))
    if len(files) != 1:
        found = f"{len(files)} .csv files" if files else "no .csv file"
        raise DataError(
            f"image_csv: {printable(str(root))} contains {found}; name one with --csv-file (`csv_file`)"
        )
    return files[0]


def _read(config: TrialConfig, root: Path, file: Path, known: _Table | None) -> _Table:
    begun = time.time_ns()
    columns, rows, lines = _parse(config, file)
    rows.check("image_csv", printable(str(file)), rows.classes)
    files = {name: _stat(root, name) for name in rows.names}
    same = {} if known is None else {name for name, each in files.items() if known.files.get(name) == each}
    probes = {name: known.probes[name] for name in same} if known else {}
    probes |= probe(root, [each for name, each in files.items() if name not in same])
    folders = {os.path.dirname(_join(root, name)) for name in files}  # noqa: PTH120  # of very many files
    changed = _stamps({str(file), *folders})
    settled = max(changed.values(), default=begun) < begun - _TICK
    return _Table(root, file, columns, rows, lines, files, probes, changed if settled else None)


def _parse(config: TrialConfig, file: Path) -> tuple[str, Rows, dict[str, int]]:
    """Return which columns are read, in words, what the rows say, and the line of each path.

    Raises:
        DataError: the file is not a CSV file with these columns.
    """
    where = f"image_csv: {printable(str(file))}"
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror}") from error
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text.partition("\n")[0]), strict=True)
    rows, lines, numbered = Rows(), dict[str, int](), _numbered(reader)
    try:
        header = [name.strip() for name in next(numbered, (1, []))[1]]
    except csv.Error as error:
        raise DataError(f"{where} has a header that cannot be read: {error}") from error
    columns = _columns(config, header, where)
    index = {use: header.index(name) for use, name in columns.items()}
    try:
        for line, cells in numbered:
            if len(cells) != len(header):
                message = f"has {counted(len(cells), 'column')}, but the header has {len(header)}"
                rows.faults.append(_fault(file, line, message))
            else:
                _take({use: cells[at].strip() for use, at in index.items()}, rows, lines, file, line)
    except csv.Error as error:
        rows.faults.append(_fault(file, reader.line_num, str(error)))
    return ", ".join(f"{use}: {printable(name)}" for use, name in columns.items()), rows, lines


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with their lines; empty ones are left out."""
    for cells in reader:
        if any(cells):
            yield reader.line_num, cells


def _delimiter(header: str) -> str:
    """Return the delimiter that divides a header into the most columns; what is quoted does not count."""
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=unquoted.count)


def _columns(config: TrialConfig, header: list[str], where: str) -> dict[str, str]:
    """Return the columns that are read, by their use: path, label, split, group."""
    found = {
        "path": find_column(header, config.path_column, "path_column", _PATHS, where),
        "label": find_column(header, config.label_column, "label_column", LABELS, where),
    }
    for use in ("split", "group"):
        given = getattr(config, f"{use}_column")
        if given is not None:
            found[use] = find_column(header, given, f"{use}_column", (), where)
    return found


def _take(cells: dict[str, str], rows: Rows, lines: dict[str, int], file: Path, line: int) -> None:
    """Add a row, or what is wrong with it."""
    faults = [f"has no {use}" for use, text in cells.items() if not text]
    path, split = cells["path"], cells.get("split", "train")
    role = role_of(split)
    if split and role is None:
        faults.append(f"split '{printable(split)}' does not mean train, val or test")
    file_of_row = os.path.normpath(path)  # ./a.png is a.png
    if file_of_row in lines:
        faults.append(f"{printable(path)} is in line {lines[file_of_row]} already")
    if faults or role is None:
        rows.faults += [_fault(file, line, fault) for fault in faults]
        return
    lines[file_of_row] = line
    rows.names.append(path)
    rows.labels.append(composed_text(cells["label"]))
    rows.roles.append(role)
    if "group" in cells:
        rows.groups.append(composed_text(cells["group"]))


def _fault(file: Path, line: int, message: str) -> str:
    return str(Fault(message, file=file.name, line=line))


def _stat(root: Path, path: str) -> File:
    try:
        status = os.stat(_join(root, path))  # noqa: PTH116  # 60,000 Paths take a second
    except (OSError, ValueError) as error:
        fault = getattr(error, "strerror", None) or str(error)
        return File(path, 0, 0, f"{fault} (folders are separated by /)" if "\\" in path else fault)
    return File(
        path, status.st_size, status.st_ctime_ns, "" if stat.S_ISREG(status.st_mode) else "not a file"
    )


def _stamps(paths: Iterable[str]) -> dict[str, int]:
    """Return when each of these files and folders was last changed; -1 for one that is not there."""
    found = {}
    for path in paths:
        try:
            found[path] = Path(path).stat().st_ctime_ns
        except (OSError, ValueError):  # a path with a null byte
            found[path] = -1
    return found


def _join(root: Path, path: str) -> str:
    return os.path.join(root, path)  # noqa: PTH118  # which may be absolute


IMAGE_CSV = ListedSource(_table, _notes)
