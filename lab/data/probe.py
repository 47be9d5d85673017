"""Which files are images, judged by their contents, and how large they are."""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from lab.data.decode import without_metadata
from lab.data.progress import track
from lab.data.tree import File

__all__ = ["Probe", "copies", "probe", "probe_content"]

_CHUNK = 256  # files between updates of the progress bar

# formats that Pillow recognises but cannot decode by itself, or only by running another program
_CLOSED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
# Pillow takes a raw photograph for a TIFF that contains only its small preview
_RAW = re.compile(
    r"\.(3fr|arw|cr2|cr3|dcr|dng|erf|iiq|k25|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw2|sr2|srf|srw|x3f)"
)
_RAW_FAULT = "a raw photograph, which Pillow cannot develop; export it as JPEG or PNG"
_HEIF = frozenset({".heic", ".heif", ".hif"})


@dataclass(frozen=True)
class Probe:
    """What a file's header says: width and height in pixels, or why it cannot be read as an image."""

    size: tuple[int, int] = (0, 0)
    fault: str = ""


def probe(root: Path, files: Sequence[File]) -> dict[str, Probe]:
    """Return what the files of the image folder `root` are, by path; only their headers are read."""
    _use_heif()
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    found: dict[str, Probe] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged files and large images: decoding reports them
        for chunk in track(((len(chunk), chunk) for chunk in chunks), len(files), "Looking at images"):
            found.update((file.path, _probe(root, file)) for file in chunk)
    return found


def probe_content(content: bytes, name: str = "") -> Probe:
    """Return what an image is by its bytes; only its header is decoded.

    Args:
        content: the bytes.
        name: of their file; empty if they are inside another one.
    """
    _use_heif()
    suffix = _suffix(name)
    if _RAW.fullmatch(suffix):
        return Probe(fault=_RAW_FAULT)
    if not content:
        no_bytes = "there are no bytes, at most a path; save_to_disk and push_to_hub write images themselves"
        return Probe(fault="the file is empty" if name else no_bytes)
    return _open(content, suffix)


@functools.cache
def _use_heif() -> None:
    """Let Pillow read HEIC if its plug-in is installed."""
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


def _probe(root: Path, file: File) -> Probe:
    suffix = _suffix(file.path)
    if file.fault or _RAW.fullmatch(suffix):
        return Probe(fault=file.fault or _RAW_FAULT)
    if not file.size:
        return Probe(fault="the file is empty")
    return _open(_join(root, file), suffix)


def _open(source: str | bytes, suffix: str) -> Probe:
    """Return what an image is, from its path or its content."""
    try:
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                return _probe_opened(image, suffix)
        except Exception:
            content = source if isinstance(source, bytes) else Path(source).read_bytes()
            bare = without_metadata(content)
            if bare == content:
                raise
            with Image.open(io.BytesIO(bare)) as image:  # as it will be decoded
                return _probe_opened(image, suffix)
    except UnidentifiedImageError:
        return Probe(fault=_unknown(suffix))
    except Exception as error:  # noqa: BLE001  # Pillow's readers raise anything for damaged files
        return Probe(fault=getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122  # 60,000 Paths take a second


def _probe_opened(image: Image.Image, suffix: str) -> Probe:
    kind = image.format or ""
    if kind in _CLOSED:
        return Probe(fault=f"Pillow cannot read {kind} by itself; export it as JPEG or PNG")
    # formats without a signature match files that are not images: there, the extension has to agree
    _, has_signature = Image.OPEN.get(kind, (None, True))
    if not has_signature and Image.EXTENSION.get(suffix) != kind:
        return Probe(fault=_unknown(suffix))
    return Probe(image.size)


def _unknown(suffix: str) -> str:
    if suffix in _HEIF:
        return "HEIC, which Pillow reads only with a plug-in (pip install pillow-heif); or export it as JPEG"
    return "not an image of a format that Pillow knows"


def copies(root: Path, files: Sequence[File]) -> list[list[int]]:
    """Return groups of indices of `files` with identical contents.

    Only files that share their size with another are read.
    """
    by_size = _grouped((file.size, at) for at, file in enumerate(files))
    by_content: list[tuple[bytes, int]] = []
    for places in by_size:
        for at in places:
            # of very many files
            with suppress(OSError), open(_join(root, files[at]), "rb", buffering=0) as stream:  # noqa: PTH123
                by_content.append((hashlib.sha256(stream.read()).digest(), at))
    return _grouped(by_content)


def _join(root: Path, file: File) -> str:
    return os.path.join(root, file.path)  # noqa: PTH118  # which may be absolute


def _grouped(pairs: Iterable[tuple[object, int]]) -> list[list[int]]:
    """Return the numbers that share a key, for each key that occurs more than once."""
    groups: dict[object, list[int]] = {}
    for key, number in pairs:
        groups.setdefault(key, []).append(number)
    return [group for group in groups.values() if len(group) > 1]
