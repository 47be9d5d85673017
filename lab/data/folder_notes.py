"""What to tell the user about an image folder: how it was read, what was left out, and what looks wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable

from lab.config import TrialConfig
from lab.data.listing import Survey
from lab.data.notes import SHOWN, copied, cut, in_classes, left_out_classes, some
from lab.data.sizes import size_note
from lab.data.tree import Folder
from lab.errors import printable
from lab.wording import counted

__all__ = ["folder_notes"]


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
    lines += left_out_classes(found.classes, config)
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


def _files(paths: Iterable[str]) -> str:
    paths = list(paths)
    kinds = Counter(os.path.splitext(path)[1].lower() for path in paths)  # noqa: PTH122  # of very many files
    which = paths if len(paths) <= SHOWN else [kind or "no extension" for kind in kinds]
    return f"{counted(len(paths), 'file')} ({some(which)})"
