"""What to tell the user about an image folder: how it was read, what was left out, and what looks wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from lab.config import TrialConfig
from lab.data.listing import Survey
from lab.data.sizes import size_note
from lab.data.tree import Folder
from lab.errors import printable

__all__ = ["copied", "cut", "folder_notes", "in_classes", "some"]

_SHOWN = 5
_CLASSES = 12  # with their counts


def folder_notes(found: Survey, config: TrialConfig, size: int) -> tuple[str, ...]:
    """Return how an image folder was read, one line per fact.

    Args:
        found: the folder.
        config: of the trial that reads it.
        size: side of the images that the model gets, in pixels.
    """
    parts = found.layout.parts
    kept = config.classes or found.classes
    lines = [f"{role}: {_part(found, role, kept)}" for role in parts]
    lines += cut(parts, config)
    dropped = [name for name in found.classes if name not in kept]
    if dropped:
        lines.append(f"left out by `classes`: {some(dropped)}")
    lines.append(size_note(config, found.sizes, size))
    same = [[(role, name, file.path) for role, name, file in group] for group in found.copies]
    return (
        *lines,
        *_left_out(found),
        *(f"warning: {each}" for each in (*_lacking(found), *copied(same, parts))),
    )


def _part(found: Survey, role: str, classes: Collection[str]) -> str:
    counts = Counter(
        name
        for split, name, file in found.files()
        if split == role and name in classes and file.path not in found.faults
    )
    path = found.layout.parts[role].path
    return f"{printable(path)}/, {in_classes(counts)}" if path else in_classes(counts)


def in_classes(counts: Counter[str]) -> str:
    """Return the number of images, and of each class: `12 images (cat 5, dog 7)`."""
    each = [f"{printable(name)} {count:,}" for name, count in list(counts.items())[:_CLASSES]]
    if len(counts) > _CLASSES:
        each.append(
            f"… {len(counts):,} classes of {min(counts.values()):,} to {max(counts.values()):,} images"
        )
    return f"{counts.total():,} images ({', '.join(each)})"


def cut(roles: Collection[str], config: TrialConfig) -> list[str]:
    """Return which splits are not among the data's own `roles`, and where they come from instead."""
    lines = []
    if "val" not in roles:
        if config.folds is not None:
            taken = f"a fold of train (folds={config.folds})"
        else:
            taken = f"cut from train (val_fraction={config.val_fraction})"
        lines.append(f"val: {taken if config.val_fraction else 'none (val_fraction=0)'}")
    if "test" not in roles:
        lines.append(f"test: cut from train (test_fraction={config.test_fraction})")
    return lines


def _left_out(found: Survey) -> list[str]:
    tree, layout = found.tree, found.layout
    lines = [
        f"left out: {printable(folder.path)}/, {len(folder.deep):,} {why}" for folder, why in layout.left_out
    ]
    strays = [file.path for file in layout.strays if not file.fault]
    if strays:
        lines.append(f"left out: {_files(strays)} next to the class folders")
    if found.faults:
        lines.append(f"left out: {_files(found.faults)} that cannot be read as images (skip_unreadable)")
    others = [path for folder in tree.walk() for path in folder.others]
    if others:
        lines.append(f"left out: {_files(others)} of other types")
    bare = [f"{folder.path}/" for folder in _bare(tree)]
    if bare:
        lines.append(f"left out: folders without images: {some(bare)}")
    links = [path for folder in tree.walk() for path in folder.links]
    if links:
        lines.append(f"left out: links to folders that are read anyway: {some(links)}")
    nested = _nested(found)
    if nested:
        lines.append(f"subfolders of a class count as part of it: {some(nested)}")
    return lines


def _bare(folder: Folder) -> Iterable[Folder]:
    for each in folder.folders:
        if each.deep:
            yield from _bare(each)
        else:
            yield each


def _nested(found: Survey) -> list[str]:
    """Return the folders below the class folders that contain images."""
    depth = {role: part.path.count("/") + bool(part.path) + 1 for role, part in found.layout.parts.items()}
    folders = ((role, file.path.rpartition("/")[0]) for role, _, file in found.files())
    return list(dict.fromkeys(f"{path}/" for role, path in folders if path.count("/") + 1 > depth[role]))


def _lacking(found: Survey) -> list[str]:
    """Return which splits have no images of some class."""
    lines = []
    for role, part in found.layout.parts.items():
        lacking = [name for name in found.classes if name not in part.classes]
        if lacking:
            lines.append(f"{printable(part.path)}/ ({role}) has no images of {some(lacking)}")
    return lines


def copied(groups: Sequence[Sequence[tuple[str, str, str]]], roles: Collection[str]) -> list[str]:
    """Return how many files are identical to others, where that distorts training or evaluation.

    Args:
        groups: of split, class and path of identical files.
        roles: the splits that the data has.
    """
    mixed = [group for group in groups if len({name for _, name, _ in group}) > 1]
    shared = [group for group in groups if len({role for role, _, _ in group}) > 1]
    repeated = [group for group in groups if len({(role, name) for role, name, _ in group}) < len(group)]
    return [
        f"{_copies(same)} {what}: {' = '.join(printable(path) for _, _, path in same[0][:3])}"
        for same, what in (
            (mixed, "in several classes"),
            (shared, "in several splits, so the model is evaluated on images it was trained on"),
            (
                [] if {"val", "test"} <= set(roles) else repeated,
                "in the same class more than once, and may end up in several splits",
            ),
        )
        if same
    ]


def _copies(groups: Sequence[object]) -> str:
    return "1 image is" if len(groups) == 1 else f"{len(groups):,} images are"


def _files(paths: Iterable[str]) -> str:
    paths = list(paths)
    kinds = Counter(os.path.splitext(path)[1].lower() for path in paths)  # noqa: PTH122
    count = "1 file" if len(paths) == 1 else f"{len(paths):,} files"
    return f"{count} ({some(paths if len(paths) <= _SHOWN else [kind or 'no extension' for kind in kinds])})"


def some(names: Sequence[str]) -> str:
    """Return the first few names."""
    more = [f"… {len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
    return ", ".join([*map(printable, names[:_SHOWN]), *more])
