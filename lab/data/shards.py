"""Which files a data set in the layouts of Hugging Face consists of, and the split that each is of."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from lab.config import TrialConfig
from lab.data.notes import some
from lab.data.split_names import ROLES, Role, split_name
from lab.data.table import role_of
from lab.errors import DataError, MissingDataError, printable

__all__ = ["Shards", "parquet_files", "saved_files"]

# one of several files: `train-00000-of-00001`, possibly with a digest, or `part-00000-…` and `part.0` of Spark and Dask
_PART: Final = re.compile(r"-\d+-of-\d+.*|^part[-.]\d+.*")


class Shards(NamedTuple):
    """The files of a data set.

    Attributes:
        names: relative to its folder.
        roles: the split that each is of.
        left_out: names of splits that are none of train, val and test.
        unlabelled: files for validation or testing that were left out, because none of their rows has a label.
    """

    names: tuple[str, ...]
    roles: tuple[Role, ...]
    left_out: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()


def parquet_files(root: Path, config: TrialConfig) -> Shards:
    """Return the Parquet files in a folder and below it, with the splits that their names say."""
    found = sorted(
        file.relative_to(root).as_posix()
        for file in root.rglob("*.parquet")
        if os.path.isfile(file)  # Spark and Dask write folders of this name
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
    )
    if not found:
        saved = any(os.path.isfile(root / name) for name in ("dataset_dict.json", "state.json"))
        hint = "; it was written by save_to_disk: read it with dataset=hf" if saved else ""
        raise MissingDataError(f"parquet: {printable(str(root))} contains no .parquet file{hint}")
    roles = [_role(name) for name in found]
    if config.split_column is not None or not any(roles):
        return Shards(tuple(found), _all_train(found))
    unclear = [name for name, role in zip(found, roles, strict=True) if role not in ROLES]
    if unclear:
        raise DataError(
            f"parquet: {printable(str(root))}: the names of {some(unclear)} do not say train, val or test, as others"
            " do; rename or remove them, or give --split-column (`split_column`)"
        )
    return Shards(tuple(found), tuple(role for role in roles if role is not None))


def _role(name: str) -> Role | None:
    """Return the split that a file's name says, or that of a folder that it is in; None if they say none."""
    path = PurePosixPath(name)
    for text in (_PART.sub("", path.stem), *reversed(path.parent.parts)):
        found = split_name(text)
        if found:
            return found.role
    return None


def saved_files(root: Path, config: TrialConfig) -> Shards:
    """Return the Arrow files that `save_to_disk` has written, of one data set or of a dict of splits."""
    where = f"hf: {printable(str(root))}"
    if os.path.isfile(root / "state.json"):
        files = _files_of(root, "", where)
        return Shards(tuple(files), _all_train(files))
    if not os.path.isfile(root / "dataset_dict.json"):
        hint = (
            "; it contains Parquet files: read them with dataset=parquet"
            if any(root.rglob("*.parquet"))
            else ""
        )
        raise MissingDataError(
            f"{where} contains neither dataset_dict.json nor state.json, which save_to_disk writes{hint}"
        )
    names, roles, left_out = list[str](), list[Role](), list[str]()
    for split in _splits_of(root, where):
        role = "train" if config.split_column is not None else role_of(split)
        if role is None:
            left_out.append(split)
            continue
        files = _files_of(root, split, where)
        names += files
        roles += [role] * len(files)
    if not names:
        raise DataError(f"{where}: its splits are {some(left_out) or 'none'}, but one must be train")
    return Shards(tuple(names), tuple(roles), tuple(left_out))


def _all_train(files: Sequence[str]) -> tuple[Role, ...]:
    return tuple("train" for _ in files)


def _splits_of(root: Path, where: str) -> list[str]:
    splits = _json(root / "dataset_dict.json", where).get("splits")
    if not isinstance(splits, list) or not all(isinstance(each, str) for each in splits):
        raise DataError(f"{where}: dataset_dict.json names no splits; save the data set again")
    return splits


def _files_of(root: Path, split: str, where: str) -> list[str]:
    state = _json(root / split / "state.json", where)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(
            f"{where} was saved as a selection of rows by an old version of datasets; save it again with a newer one"
        )
    try:
        files = [str(each["filename"]) for each in state["_data_files"]]
    except (KeyError, TypeError):
        files = []
    if not files:
        raise DataError(
            f"{where}: {printable(split or '.')}/state.json names no files; save the data set again"
        )
    return [f"{split}/{file}" if split else file for file in files]


def _json(file: Path, where: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise MissingDataError(f"{where}: {printable(file.name)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{where}: {printable(file.name)} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: {printable(file.name)} is damaged")
    return found
