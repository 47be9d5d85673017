"""The contents of an image folder, whatever they mean: folders, files that may be images, and what is left out."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lab.errors import DataError, printable

__all__ = ["File", "Folder", "read_tree"]

# what systems and programs leave behind: never a class, never an image, and left out silently
_LITTER = re.compile(
    r"\..*|~\$.*|.*~|__macosx|__pycache__|@eadir|@tmp|#recycle|#snapshot|\$recycle\.bin|lost\+found"
    r"|system volume information|found\.\d{3}|thumbs\.db(:encryptable)?|ehthumbs(_vista)?\.db|desktop\.ini|icon\r"
    r"|picasa\.ini|zbthumbnail\.info|.*\.(part|crdownload|tmp|swp)",
    re.IGNORECASE,
)

# what people keep next to images: mentioned in the summary, but not a fault
_OTHER = re.compile(
    r"(?!.*\.(avif|bmp|gif|hei[cf]|jp2|jpe?g?|p[bgnp]m|png|tga|tiff?|webp)$)"
    r"(readme|licen[cs]e|notice|citation|copying|authors|changelog|changes|makefile|sha\d*sums?|md5sums?)(\..*)?"
    r"|.*\.(txt|md|rst|csv|tsv|json|jsonl|ndjson|xml|ya?ml|toml|ini|cfg|html?|css|js|pdf|tex|bib|log|py|ipynb|m|sh|bat|r"
    r"|docx?|xlsx?|pptx?|odt|ods|zip|tar|gz|tgz|bz2|xz|zst|7z|rar|npy|npz|pkl|pickle|pt|pth|onnx|mat|h5|hdf5|parquet"
    r"|arrow|feather|db|db3|sqlite3?|lmdb|tfrecords?|lnk|url|cache|md5|sha1|sha256"
    r"|aae|xmp|mp4|m4v|mov|avi|mkv|webm|mp3|wav)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class File:
    """A file that may be an image.

    Attributes:
        path: relative to the image folder.
        size: in bytes.
        changed: when it was last changed or replaced (its ctime), in nanoseconds since 1970: copying programs keep the
            mtime.
        fault: why it cannot be an image, if that is clear without reading it; else empty.
    """

    path: str
    size: int
    changed: int
    fault: str = ""


@dataclass(frozen=True)
class Folder:
    """A folder and everything relevant below it, sorted by name.

    Attributes:
        path: relative to the image folder; empty for that folder itself.
        files: directly in it.
        folders: directly in it, including empty ones.
        others: paths of files that are not images and need not be.
        links: paths of links that are not followed, because their targets are read anyway.
    """

    path: str
    files: tuple[File, ...] = ()
    folders: tuple[Folder, ...] = ()
    others: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.path.rpartition("/")[2]

    def walk(self) -> Iterator[Folder]:
        """Yield this folder and all folders below it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()

    @cached_property
    def deep(self) -> tuple[File, ...]:
        """The files in and below this folder, sorted by path."""
        return tuple(
            sorted((file for folder in self.walk() for file in folder.files), key=lambda file: file.path)
        )

    @cached_property
    def full(self) -> tuple[Folder, ...]:
        """The subfolders that have files in or below them."""
        return tuple(folder for folder in self.folders if folder.deep)


def read_tree(root: Path) -> Folder:
    """Return the contents of `root` without litter; links are followed unless their target is read anyway.

    Raises:
        DataError: a folder cannot be read.
    """
    try:
        return _Reader(str(root)).read()
    except OSError as error:
        raise DataError(f"image_folder: {printable(str(root))} cannot be read: {error}") from error


@dataclass
class _Found:
    """A folder while it is being read."""

    path: str
    files: list[File] = field(default_factory=list)
    folders: list[_Found] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def frozen(self) -> Folder:
        folders = tuple(sorted((each.frozen() for each in self.folders), key=lambda each: each.path))
        files = tuple(sorted(self.files, key=lambda file: file.path))
        return Folder(self.path, files, folders, tuple(sorted(self.others)), tuple(sorted(self.links)))


class _Reader:
    """Reads the folders themselves first and the targets of links afterwards: a link must not hide its target."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._seen: set[tuple[int, int]] = set()
        self._links: list[tuple[_Found, str]] = []

    def read(self) -> Folder:
        found = _Found("")
        self._fill(found)
        while self._links:
            parent, path = self._links.pop(0)
            if _identity(f"{self._root}/{path}") in self._seen:
                parent.links.append(path)
            else:
                self._descend(parent, path)
        return found.frozen()

    def _descend(self, parent: _Found, path: str) -> None:
        child = _Found(path)
        parent.folders.append(child)
        self._fill(child)

    def _fill(self, found: _Found) -> None:
        here = f"{self._root}/{found.path}" if found.path else self._root
        self._seen.add(_identity(here))
        with os.scandir(here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not _LITTER.fullmatch(entry.name):
                    self._take(found, entry)

    def _take(self, found: _Found, entry: os.DirEntry[str]) -> None:
        path = f"{found.path}/{entry.name}" if found.path else entry.name
        try:
            status = entry.stat()
        except OSError as error:
            if not entry.is_symlink():
                raise
            target = printable(os.readlink(entry.path))  # noqa: PTH115  # as it is spelt
            found.files.append(File(path, 0, 0, f"a broken link to {target} ({error.strerror})"))
            return
        if stat.S_ISDIR(status.st_mode):
            if entry.is_symlink():
                self._links.append((found, path))
            else:
                self._descend(found, path)
        elif stat.S_ISREG(status.st_mode) and not _OTHER.fullmatch(entry.name):
            found.files.append(File(path, status.st_size, status.st_ctime_ns))
        else:  # sockets and pipes too: opening one would block for ever
            found.others.append(path)


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116  # of very many folders
    return status.st_dev, status.st_ino
