"""Which images an image folder contains, in which splits and classes, and what is left out."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.data.encoded import ImageFiles
from lab.data.layout import LAYOUT, Layout, read_layout
from lab.data.listed import Listing, unreadable
from lab.data.probe import Probe, copies, probe
from lab.data.tree import File, Folder, read_tree
from lab.errors import MissingDataError, printable

__all__ = ["Survey", "forget_surveys", "survey"]

_KEPT = 2
# nanoseconds: a folder changed this recently may change again under the same modification time
_TICK = 100_000_000
_surveys: OrderedDict[tuple[Path, frozenset[str]], Survey] = OrderedDict()
_lock = threading.Lock()


@dataclass(eq=False)
class Survey:
    """Everything in an image folder, and what it means.

    Attributes:
        root: the image folder.
        tree: its contents.
        layout: what its folders mean.
        probes: what each file of a class is, by path.
        changed: when each folder was last changed, by path; None if that was only just now.
    """

    root: Path
    tree: Folder
    layout: Layout
    probes: dict[str, Probe]
    changed: dict[str, int] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return tuple(self.layout.parts["train"].classes)

    def files(self) -> Iterator[tuple[str, str, File]]:
        """Yield split, class and file, in a fixed order."""
        for role, part in self.layout.parts.items():
            for name, files in part.classes.items():
                yield from ((role, name, file) for file in files)

    @property
    def roles(self) -> Collection[str]:
        """The splits."""
        return self.layout.parts

    @cached_property
    def listing(self) -> Listing:
        """The images that can be read, in a fixed order; see `Found`."""
        images = list(self.files())
        counts = Counter(role for role, _, _ in images)
        label = {name: number for number, name in enumerate(self.classes)}
        paths = tuple(file.path for _, _, file in images)
        labels = tuple(label[name] for _, name, _ in images)
        files = ImageFiles(self.root, paths)
        every = Listing("image_folder", self.classes, files, labels, counts["train"], counts["val"])
        return every.without({at for at, path in enumerate(paths) if path in self.faults})

    @property
    def unreadable(self) -> str:
        """The message about files that cannot be read as images; empty if all can."""
        return unreadable("image_folder", self.root, self.faults, len(self.probes)) if self.faults else ""

    @cached_property
    def faults(self) -> dict[str, str]:
        """Why files cannot be read, by path."""
        return {path: probe.fault for path, probe in self.probes.items() if probe.fault}

    @cached_property
    def sizes(self) -> Counter[tuple[int, int]]:
        """How many images have each width and height in pixels."""
        return Counter(probe.size for probe in self.probes.values() if not probe.fault)

    @cached_property
    def copies(self) -> list[list[tuple[str, str, File]]]:
        """Groups of files with the same content, as `files` yields them."""
        files = [each for each in self.files() if each[2].path not in self.faults]
        return [[files[at] for at in group] for group in copies(self.root, [file for _, _, file in files])]


def survey(root: Path, classes: Collection[str] = (), *, fresh: bool = False) -> Survey:
    """Return what an image folder contains.

    This process remembers the latest few folders, and reads one again once something was added, renamed or removed.

    Args:
        root: the image folder.
        classes: names that the user says are classes.
        fresh: also notice files that were overwritten in place.

    Raises:
        DataError: the folder is missing, cannot be read, or has no known layout; says what was found.
    """
    if not root.is_dir():
        raise MissingDataError(f"image_folder: there is no folder {printable(str(root))}; expected {LAYOUT}")
    key = (root, frozenset(classes))
    with _lock:
        known = _surveys.get(key)
        if known is None or fresh or known.changed is None or known.changed != _changed(root, known.tree):
            known = _survey(root, classes, known)
        _surveys[key] = known
        _surveys.move_to_end(key)
        while len(_surveys) > _KEPT:
            _surveys.popitem(last=False)
        return known


def forget_surveys() -> None:
    """Read every folder again the next time."""
    with _lock:
        _surveys.clear()


def _survey(root: Path, classes: Collection[str], known: Survey | None) -> Survey:
    """Return what `root` contains now; `known` if nothing has changed."""
    begun = time.time_ns()
    tree = read_tree(root)
    if known is None or known.tree != tree:
        layout = read_layout(tree, str(root), classes)
        known = Survey(root, tree, layout, _probes(root, tree, layout))
    changed = _changed(root, tree)
    known.changed = changed if max(changed.values(), default=begun) < begun - _TICK else None
    return known


def _probes(root: Path, tree: Folder, layout: Layout) -> dict[str, Probe]:
    files = [file for part in layout.parts.values() for files in part.classes.values() for file in files]
    files += [file for file in layout.strays if file.fault]  # a broken link may have been a class
    known = next((each.probes for (at, _), each in _surveys.items() if at == root and each.tree == tree), {})
    found = {**known, **probe(root, [file for file in files if file.path not in known])}
    return {file.path: found[file.path] for file in files}


def _changed(root: Path, tree: Folder) -> dict[str, int]:
    """Return when each folder was last changed, by path; empty if one of them is gone."""
    try:
        # whenever the folder is described: Paths take longer
        return {folder.path: os.stat(f"{root}/{folder.path}").st_mtime_ns for folder in tree.walk()}  # noqa: PTH116
    except OSError:
        return {}
