"""Rows of Arrow and Parquet files: their columns, and the encoded images in them. The only module that uses pyarrow."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import PIL
from numpy.typing import NDArray

from lab.data.cache import cache_dir, recall, remember, write_whole
from lab.data.chunks import by_chunks
from lab.data.contents import content_digests
from lab.data.probe import Probe, probe_content
from lab.errors import DataError, printable
from lab.wording import counted

__all__ = ["Column", "Facts", "RowImages", "columns_of", "images_in", "read_columns"]

_FORMAT: Final = 1  # of what is kept in the cache
_BATCH: Final = 256  # rows that are copied at once
_OPEN: Final = 4096  # files
_BYTES: Final = "bytes"  # the column of copies, and the field of an image in the layout of Hugging Face


@dataclass(frozen=True)
class Column:
    """A column of a file of rows.

    Attributes:
        name: as the file has it.
        kind: what it holds: `image` for encoded images, `text` for names and whole numbers; empty for anything else.
        classes: the names of the numbers in it, in the layout of Hugging Face; empty if it has none.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is known about an image without decoding it: the digest of its bytes, and what its header says."""

    digest: str
    probe: Probe


@dataclass(frozen=True, eq=False)
class RowImages:
    """Encoded images in columns of Arrow files; see `Encoded`.

    Attributes:
        root: the data folder.
        names: of the files, as errors call them.
        files: where the images are: memory-mapped, so that any row can be read at once.
        column: with the images.
        contents: a digest of each file.
        places: the file and the row of each image, int64 [N, 2].
    """

    root: Path
    names: tuple[str, ...]
    files: tuple[str, ...]
    column: str
    contents: tuple[str, ...]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def name(self, at: int) -> str:
        """Return the file and the row of the image at index `at`."""
        file, row = self.places[at].tolist()
        return f"{self.names[file]}, row {row}"

    def read(self, at: int) -> bytes:
        """Return the bytes of an image; none if it has none. Raises OSError if the file cannot be read."""
        file, row = self.places[at].tolist()
        images = _images(self.files[file], self.column)
        if row >= len(images):
            raise OSError(f"{self.names[file]} has changed: it has only {counted(len(images), 'row')}")
        return _bytes_in(images, row)

    def facts(self) -> list[Facts]:
        """Return what is known about each image; remembered between processes. Raises OSError as `read` does."""
        every = {int(file): self._facts(int(file)) for file in np.unique(self.places[:, 0])}
        return [every[file][row] for file, row in self.places.tolist()]

    def digests(self) -> list[str]:
        """Return the SHA-256 of each image."""
        return [each.digest for each in self.facts()]

    def only(self, places: Sequence[int]) -> RowImages:
        """Return the images at these indices."""
        chosen = self.places[np.asarray(places, np.int64)]
        return RowImages(self.root, self.names, self.files, self.column, self.contents, chosen)

    def _facts(self, file: int) -> tuple[Facts, ...]:
        return _facts(self.files[file], self.column, self.contents[file])


def columns_of(file: Path) -> tuple[Column, ...]:
    """Return the columns of a Parquet file, or of an Arrow file as `save_to_disk` writes it.

    Raises:
        DataError: it is no such file, or cannot be read.
    """
    schema, features = _reading(file, _schema)
    return tuple(_column(field, features.get(field.name)) for field in schema)


def read_columns(file: Path, names: Sequence[str]) -> list[list[Any]]:
    """Return the values of several columns of a file.

    Raises:
        DataError: it cannot be read.
    """

    def read(file: Path) -> list[list[Any]]:
        if _is_parquet(file):
            table = _parquet().ParquetFile(file).read(columns=list(dict.fromkeys(names)))
        else:
            table = _table(str(file))
        return [table.column(name).to_pylist() for name in names]

    values: list[list[Any]] = _reading(file, read)
    return values


def images_in(root: Path, names: Sequence[str], column: str, rows: Sequence[int]) -> RowImages:
    """Return all images of several files, in order.

    Those of a Parquet file are copied into lab's cache once, as they are: in the file itself, nothing can be read
    without decompressing what is around it.

    Args:
        root: the data folder.
        names: of the files, relative to `root`.
        column: with the images.
        rows: number of rows of each file.

    Raises:
        DataError: a file cannot be read, or the copy not be written.
    """
    try:
        contents = content_digests(root, names)
    except OSError as error:
        raise DataError(f"{printable(str(root))} cannot be read: {error}") from error
    files, columns = [], set()
    for name, digest in zip(names, contents, strict=True):
        file = root / name
        copied = _is_parquet(file)
        files.append(
            str(_reading(file, lambda file, key=digest: _copy(file, key, column)) if copied else file)
        )
        columns.add(_BYTES if copied else column)
    places = [np.stack([np.full(count, at), np.arange(count)], axis=1) for at, count in enumerate(rows)]
    every = np.concatenate(places).astype(np.int64) if places else np.empty((0, 2), np.int64)
    (held,) = columns or {column}
    return RowImages(root, tuple(names), tuple(files), held, tuple(contents), every)


def _arrow() -> Any:
    return importlib.import_module("pyarrow")  # it takes a while, and is not typed


def _parquet() -> Any:
    return importlib.import_module("pyarrow.parquet")


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


def _reading(file: Path, read: Any) -> Any:
    """Return `read(file)`; whatever pyarrow raises becomes one error that names the file."""
    try:
        return read(file)
    except (OSError, ValueError, _arrow().ArrowException) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{printable(str(file))} cannot be read: {printable(reason)}") from error


def _schema(file: Path) -> tuple[Any, dict[str, Any]]:
    """Return a file's schema, and what the package `datasets` has noted about its columns, by their names."""
    if _is_parquet(file):
        schema = _parquet().read_schema(file)
    else:
        schema = _arrow().ipc.open_stream(_arrow().memory_map(str(file))).schema
    told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return schema, _within(_within(told, "info"), "features")


def _within(told: Any, key: str) -> dict[str, Any]:
    """Return the dict under a key of a dict; empty if there is none."""
    found = told.get(key) if isinstance(told, dict) else None
    return found if isinstance(found, dict) else {}


def _column(field: Any, feature: Any) -> Column:
    types = _arrow().types
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    struct = types.is_struct(kind) and any(
        part.name == _BYTES and _is_binary(part.type)
        for part in (kind.field(at) for at in range(kind.num_fields))
    )
    if struct or _is_binary(kind):
        return Column(field.name, "image")
    if not (
        types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
    ):
        return Column(field.name, "")
    return Column(field.name, "text", _class_names(feature) if types.is_integer(kind) else ())


def _class_names(feature: Any) -> tuple[str, ...]:
    """Return the names of a column's numbers; empty if it is not noted as one of classes."""
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return ()
    names = feature.get("names")
    if isinstance(names, dict) and all(number.isdecimal() for number in names):
        names = [names[number] for number in sorted(names, key=int)]  # as in some versions
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _is_binary(kind: Any) -> bool:
    types = _arrow().types
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _table(file: str) -> Any:
    return _arrow().ipc.open_stream(_arrow().memory_map(file)).read_all()


def _stamp(file: str) -> tuple[int, int]:
    status = os.stat(file)  # noqa: PTH116  # for every image
    return status.st_size, status.st_ctime_ns


def _images(file: str, column: str) -> Any:
    """Return a column of an Arrow file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return _opened(file, column, _stamp(file))
    except (KeyError, ValueError, _arrow().ArrowException) as error:
        raise OSError(f"{printable(file)}: {printable(str(error))}") from error


@functools.lru_cache(maxsize=_OPEN)
def _opened(file: str, column: str, _stamp: tuple[int, int]) -> Any:
    return _table(file).column(column)


def _bytes_in(column: Any, row: int) -> bytes:
    value = column[row]
    if _arrow().types.is_struct(column.type):
        value = value[_BYTES] if value.is_valid else value
    return value.as_py() or b"" if value.is_valid else b""


def _copy(file: Path, digest: str, column: str) -> Path:
    """Return the copy of a Parquet file's images in the cache; it is written if there is none, or a damaged one.

    Raises:
        DataError: it cannot be written.
    """
    arrow, source = _arrow(), _parquet().ParquetFile(file)
    key = hashlib.sha256(f"{_FORMAT} {digest} {column!a}".encode()).hexdigest()

    def write(stream: IO[bytes]) -> None:
        schema = arrow.schema([(_BYTES, arrow.large_binary())])
        with arrow.ipc.new_stream(stream, schema) as writer:
            for batch in source.iter_batches(_BATCH, columns=[column]):
                found = batch.column(0)
                if arrow.types.is_struct(found.type):
                    found = found.flatten()[found.type.get_field_index(_BYTES)]
                writer.write_batch(arrow.record_batch([found.cast(arrow.large_binary())], schema=schema))

    try:
        target = cache_dir() / "rows" / f"{key}.arrow"
        if not _is_whole(target, source.metadata.num_rows):
            write_whole(target, write)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{printable(str(file))}: its images cannot be copied into lab's cache: {error}; set LAB_CACHE_DIR to a"
            " folder with enough room"
        ) from error
    return target


def _is_whole(copy: Path, rows: int) -> bool:
    """Whether a copy is there, and has all rows: a full disk or a loss of power may have cut it off."""
    try:
        return len(_images(str(copy), _BYTES)) == rows
    except OSError:
        return False


@functools.lru_cache(maxsize=_OPEN)
def _facts(file: str, column: str, digest: str) -> tuple[Facts, ...]:
    key = hashlib.sha256(f"{_FORMAT} {PIL.__version__} {digest} {column!a}".encode()).hexdigest()
    images = _images(file, column)
    known = recall("rows", key)
    if known is None or len(known) != len(images):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged and large images: decoding reports them
            found = by_chunks(
                len(images), lambda start, stop: _look(images, start, stop), "Looking at images"
            )
            known = [each for chunk in found for each in chunk]
        remember("rows", key, known)
    return tuple(Facts(sha, Probe((width, height), fault)) for sha, width, height, fault in known)


def _look(images: Any, start: int, stop: int) -> list[tuple[str, int, int, str]]:
    found = []
    for row in range(start, stop):
        content = _bytes_in(images, row)
        probe = probe_content(content)
        found.append((hashlib.sha256(content).hexdigest(), *probe.size, probe.fault))
    return found
