"""Which images an image folder holds, and of which classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import DataError

__all__ = ["LAYOUT", "Listing", "class_names", "list_images"]

LAYOUT = "DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg, or DIR/CLASS/*.jpg, with --data-dir DIR"

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SHOWN = 5


@dataclass(frozen=True)
class Listing:
    """Images by path relative to `root`, and their labels; the first `train` of them are for training.

    `train` is all of them where the folder has no train/ and test/ of its own.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    train: int


def class_names(root: Path) -> tuple[str, ...]:
    """Return the class folders of an image folder, sorted.

    Raises:
        DataError: no such folder, fewer than two classes, train/ and test/ that differ.
    """
    if not root.is_dir():
        raise DataError(f"image_folder: there is no folder {root}; expected {LAYOUT}")
    parts = _parts(root)
    names = [_folders(root / part) for part in parts]
    if len(names) == 2 and names[0] != names[1]:
        raise DataError(
            f"image_folder: {root}/train and {root}/test must hold the same classes,"
            f" but {_difference(names[0], names[1])}"
        )
    if len(names[0]) < 2:
        found = f"only the class folder {names[0][0]}" if names[0] else "no class folders"
        raise DataError(
            f"image_folder: at least 2 classes are needed, but {root / parts[0]} holds {found}; expected {LAYOUT}"
        )
    return names[0]


def list_images(root: Path) -> Listing:
    """Return the images of an image folder in a fixed order; hidden files and other kinds of file are left out.

    Raises:
        DataError: as `class_names`, or a class without images.
    """
    classes = class_names(root)
    files: list[str] = []
    labels: list[int] = []
    ends = []
    for part in _parts(root):
        folders = [str(root / part / name) for name in classes]
        seen = {_identity(folder) for folder in (str(root), str(root / part), *folders)}
        for label, folder in enumerate(folders):
            found = sorted(_walk(folder, seen))
            if not found:
                raise DataError(
                    f"image_folder: no images in {folder}; known kinds are {', '.join(_SUFFIXES)}"
                )
            files += [os.path.relpath(file, root) for file in found]
            labels += [label] * len(found)
        ends.append(len(files))
    return Listing(root, classes, tuple(files), tuple(labels), ends[0])


def _parts(root: Path) -> tuple[str, ...]:
    """Return where the class folders lie: in train/ and test/, or in the folder itself."""
    both = ("train", "test")
    there = [part for part in both if (root / part).is_dir()]
    if len(there) == 2:
        return both
    if there and _folders(root / there[0]):  # not a class of that name: it has class folders itself
        absent = "test" if there[0] == "train" else "train"
        raise DataError(
            f"image_folder: {root} has {there[0]}/ but no {absent}/; expected {LAYOUT}"
            f" (with {root / there[0]} as DIR, we split it)"
        )
    return (".",)


def _folders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."))


def _difference(train: tuple[str, ...], test: tuple[str, ...]) -> str:
    sides = (("train", set(train) - set(test)), ("test", set(test) - set(train)))
    return " and ".join(
        f"only {part}/ has {', '.join(sorted(names)[:_SHOWN])}{' …' * (len(names) > _SHOWN)}"
        for part, names in sides
        if names
    )


def _walk(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the images in and below `folder`, following links to folders not `seen` before."""
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        folders[:] = [name for name in folders if name[0] != "." and _is_new(f"{parent}/{name}", seen)]
        for name in names:
            if name[0] != "." and name.lower().endswith(_SUFFIXES):
                yield f"{parent}/{name}"


def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
    identity = _identity(folder)
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> None:
    raise error
