"""What the folders of an image folder mean: which are splits and which are classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Sized
from dataclasses import dataclass
from itertools import combinations

from lab.config import composed
from lab.data.split_names import ROLES, Role, SplitName, split_name
from lab.data.tree import File, Folder
from lab.errors import DataError, printable

__all__ = ["LAYOUT", "Layout", "Part", "read_layout"]

LAYOUT = (
    "DIR/CLASS/*.jpg, or DIR/train/CLASS/*.jpg with val/ or test/ or both next to train/, with --data-dir DIR"
    " (Training, valid, seg_test, test_set and similar names are splits too)"
)

_SHOWN = 6


@dataclass(frozen=True)
class Part:
    """A split.

    Attributes:
        path: of its folder, relative to the image folder; empty if that contains the classes itself.
        classes: the files of each class, by its name, sorted by name.
    """

    path: str
    classes: dict[str, tuple[File, ...]]


@dataclass(frozen=True)
class Layout:
    """What an image folder contains.

    Attributes:
        path: of the folder with the class folders or splits, relative to the image folder; folders that only wrap
            it are skipped.
        parts: `train`, and `val` and `test` if there are such folders.
        left_out: folders with images that belong to no split, and why: `seg_pred` has no classes.
        strays: files next to the folders.
    """

    path: str
    parts: dict[str, Part]
    left_out: tuple[tuple[Folder, str], ...]
    strays: tuple[File, ...]


class _UnclearError(Exception):
    """Why the folders look like splits but cannot be read as splits."""


def read_layout(tree: Folder, root: str, classes: Collection[str] = ()) -> Layout:
    """Return what the folders of `tree` mean.

    A folder of class folders is a split if it is named like one. Subfolders of a class belong to it.

    Args:
        tree: from `read_tree`.
        root: the image folder, for errors.
        classes: names that the user says are classes; folders with these names are not taken for splits.

    Raises:
        DataError: there are fewer than two classes, a class has no images, classes occur only in val or test, or
            folders look like splits but match no known layout.
    """
    named = frozenset(composed(name) for name in classes)
    folder = _unwrapped(tree, named)
    try:
        splits = _splits(folder, named)
        return _splits_of(folder, splits, named, root) if splits else _flat(folder, named, root)
    except _UnclearError as reason:
        name = printable(f"{root}/{folder.path}" if folder.path else root)
        raise DataError(
            f"image_folder: {name} looks like splits of a dataset, but {reason}.\n"
            f"Found: {_contents(folder)}\n"
            f"Expected: {LAYOUT}\n"
            "If these folders are classes, name them: --classes"
            f" {','.join(printable(kid.name) for kid in folder.full[:3])}{',…' * (len(folder.full) > 3)}"
        ) from None


def _unwrapped(folder: Folder, named: frozenset[str]) -> Folder:
    """Return the first folder on the way down that contains more than a single folder of folders."""
    while not folder.files and len(folder.full) == 1:
        (only,) = folder.full
        if not only.full or only.files or only.name in named:
            break
        if _role(only) in ("val", "test") and not any(map(_role, only.full)):
            break  # there is nothing to train on
        folder = only
    return folder


def _role(folder: Folder) -> Role | None:
    name = split_name(folder.name)
    return name.role if name else None


def _splits(folder: Folder, named: frozenset[str]) -> dict[Folder, SplitName]:
    """Return which folders in `folder` are splits by name and content, and of which kind.

    Raises:
        _UnclearError: they may be splits or something else.
    """
    kids = folder.full
    if named and named <= {_class(kid) for kid in kids}:
        return {}
    names = {kid: name for kid in kids if (name := split_name(kid.name))}
    if not names:
        _refuse_grouped(kids)
        return {}
    groups = [kid for kid in names if _has_classes(kid)]
    others = [kid for kid in kids if kid not in names]
    if not groups:
        _refuse_bare_splits(names, others)
        _refuse_grouped(kids)
        return {}
    others = [kid for kid in others if not _is_copy(kid, names)]
    if others:
        raise _UnclearError(f"{_named(others)} {_is(others)} not a split")
    return names


def _is_copy(folder: Folder, splits: Iterable[Folder]) -> bool:
    """Return whether a folder repeats the splits next to it: an archive that contains itself."""
    above = len(folder.path.removesuffix(folder.name))
    inside = {(file.path[len(folder.path) + 1 :], file.size) for file in folder.deep}
    return inside == {(file.path[above:], file.size) for split in splits for file in split.deep}


def _has_classes(kid: Folder) -> bool:
    """Return whether a folder named like a split has class folders, and is not a class with subfolders."""
    inside = _inside(kid)
    return bool(inside.full) and 2 * len(inside.files) < len(inside.deep)


def _refuse_grouped(kids: Sequence[Folder]) -> None:
    """Raise if folders contain the same folders: `fold1/cat` and `fold2/cat`, `cat/train` and `dog/train`."""
    groups = [kid for kid in kids if not kid.files]
    for one, other in combinations(groups[:50], 2):
        common = {kid.name for kid in one.full} & {kid.name for kid in other.full}
        if len(common) > 1:
            raise _UnclearError(
                f"{_named([one, other])} both have the folders {_list(map(printable, sorted(common)))}"
            )


def _refuse_bare_splits(names: dict[Folder, SplitName], others: Sequence[Folder]) -> None:
    """Raise if splits contain images but no classes; a single such folder among classes is a class itself."""
    roles = {name.role for name in names.values()}
    surely = len(names) > 1 if "unknown" in roles else len(roles) > 1
    listed = _named(names)
    if not others:
        raise _UnclearError(
            f"{listed} {'contains' if len(names) == 1 else 'contain'} images but no class folders"
        )
    if surely or "unlabelled" in roles:
        raise _UnclearError(
            f"{listed} {_is(names)} next to {_named(others)}, which {_is(others)} not a split"
        )


def _splits_of(folder: Folder, names: dict[Folder, SplitName], named: frozenset[str], root: str) -> Layout:
    by_role: dict[Role, list[Folder]] = {}
    for kid, name in names.items():
        by_role.setdefault(name.role, []).append(kid)
    unlabelled = by_role.pop("unlabelled", [])
    _check_roles(by_role, {name.rest for kid, name in names.items() if kid not in unlabelled})
    found: dict[str, Part] = {}
    for role in ROLES:
        for kid in by_role.get(role, ()):
            found[role] = _part(_inside(kid), named, root, needs_all=role == "train")
    _check_classes(found, root)
    strays = (*folder.files, *(file for kid in names if kid not in unlabelled for file in _inside(kid).files))
    left_out = [(kid, "images without classes") for kid in unlabelled]
    left_out += [(kid, "images: a copy of the splits next to it") for kid in folder.full if kid not in names]
    return Layout(folder.path, found, tuple(left_out), strays)


def _check_roles(by_role: dict[Role, list[Folder]], rests: set[str]) -> None:
    for role, kids in by_role.items():
        listed = _named(kids)
        if role == "unknown":
            raise _UnclearError(f"the names do not say what {listed} {_is(kids)} for")
        if len(kids) > 1:
            raise _UnclearError(f"{listed} all seem to be for {role}")
        if not _inside(kids[0]).full:
            raise _UnclearError(
                f"{listed} contains images but no class folders (pass the folder to train on as DIR, and lab splits it)"
            )
    if "train" not in by_role:
        listed = _named([kid for kids in by_role.values() for kid in kids])
        raise _UnclearError(
            f"there is only {listed} and nothing to train on (pass that folder as DIR, and lab splits it)"
        )
    if len(rests - {""}) > 1:
        raise _UnclearError(f"their names refer to different things: {_list(sorted(rests))}")


def _inside(split: Folder) -> Folder:
    """Return the folder that contains a split's classes: some archives nest it in another of the same name."""
    while not split.files and len(split.full) == 1:
        (only,) = split.full
        same = only.name.casefold() == split.name.casefold() or _role(only) == _role(split)
        if not same and (only.files or not only.full):
            break
        split = only
    return split


def _flat(folder: Folder, named: frozenset[str], root: str) -> Layout:
    part = _part(folder, named, root, needs_all=True)
    return Layout(folder.path, {"train": part}, (), folder.files)


def _part(folder: Folder, named: frozenset[str], root: str, *, needs_all: bool) -> Part:
    """Return the classes of a folder of class folders.

    Raises:
        _UnclearError: its folders look like splits.
        DataError: `needs_all`, and there are fewer than two, or one is empty.
    """
    if _splits(folder, named):
        raise _UnclearError(f"{printable(folder.path or root)}/ contains splits as well")
    where = printable(f"{root}/{folder.path}" if folder.path else root)
    empty = [kid for kid in folder.folders if not kid.deep and not _has_others(kid)]
    if needs_all and empty and folder.full:
        listed = _list(printable(kid.path) for kid in empty)
        raise DataError(
            f"image_folder: no images in {listed} of {printable(root)}; add some, or remove the empty folders"
        )
    if needs_all and len(folder.full) < 2:
        found = (
            f"only the class folder {printable(folder.full[0].name)}" if folder.full else "no class folders"
        )
        found += f", and {_count(folder.files, 'file')} outside of one" if folder.files else ""
        broken = [
            f"; {printable(file.path)} is {printable(file.fault)}" for file in folder.files if file.fault
        ]
        raise DataError(
            f"image_folder: at least 2 classes are needed, but {where} contains {found}{''.join(broken)};"
            f" expected {LAYOUT}"
        )
    classes: dict[str, list[File]] = {}
    for kid in folder.full:
        classes.setdefault(_class(kid), []).extend(kid.deep)
    return Part(folder.path, {name: tuple(classes[name]) for name in sorted(classes)})


def _class(folder: Folder) -> str:
    """Return the class of a folder: macOS and Linux may spell é with different characters."""
    return composed(folder.name)


def _check_classes(parts: dict[str, Part], root: str) -> None:
    train = parts["train"]
    for part in parts.values():
        unknown, lacking = (
            part.classes.keys() - train.classes.keys(),
            train.classes.keys() - part.classes.keys(),
        )
        if unknown:
            sides = [(part, unknown), *([(train, lacking)] if lacking else [])]
            differ = " and ".join(
                f"only {printable(side.path)}/ has {_list(map(printable, sorted(names)))}"
                for side, names in sides
            )
            raise DataError(
                f"image_folder: every class in {printable(root)} needs training images, but {differ}"
            )


def _has_others(folder: Folder) -> bool:
    return any(kid.others or kid.links for kid in folder.walk())


def _contents(folder: Folder) -> str:
    kids = [f"{printable(kid.name)}/ ({_content(kid)})" for kid in folder.full]
    return _list([*kids, *([_count(folder.files, "file")] if folder.files else [])])


def _content(folder: Folder) -> str:
    counted = ((folder.full, "folder"), (folder.files, "image"))
    return " and ".join(_count(several, what) for several, what in counted if several)


def _count(several: Sized, what: str) -> str:
    return f"{len(several):,} {what}{'' if len(several) == 1 else 's'}"


def _named(folders: Iterable[Folder]) -> str:
    return _list(f"{printable(folder.name)}/" for folder in folders)


def _is(several: Sized) -> str:
    return "is" if len(several) == 1 else "are"


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    *first, last = [*names[:_SHOWN], *more]
    return f"{', '.join(first)} and {last}" if first else last
