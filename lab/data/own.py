"""Data sets of users' own: what their functions return, or their map-style torch Datasets, as a `Source`.

The function is called once per process, and what it returns is kept until it is loaded. Every image is looked at then,
because the contents identify the data.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray

from lab import plugins
from lab.config import TrialConfig
from lab.data.base import DataInfo, RawData, Source, Split, make_split
from lab.data.loaders import Loaders
from lab.data.notes import cut, in_classes, left_out_classes, some
from lab.data.parts import ArrayPart, ItemPart, Part, Scan, item, parts_of, scan
from lab.data.pixels import fitted
from lab.data.progress import track
from lab.data.room import too_large
from lab.data.sizes import size_note, sizes_in_words
from lab.data.stream import StreamSplit
from lab.errors import DataError, LabError, MissingDataError, OtherDataError
from lab.registry import Entry

__all__ = ["as_source", "forget_own"]

_KEPT: Final = 64  # without the images
_pickle: Any = cloudpickle  # it is not typed

_Key = tuple[object, ...]
_known: OrderedDict[_Key, _Found] = OrderedDict()
_lock = threading.RLock()


def as_source(entry: Entry) -> Source:
    """Return the source that a dataset's entry stands for.

    Args:
        entry: of a source (or a class of one), or of a function, a class or an instance as docs/OWN.md describes.
    """
    target = entry.load()
    if hasattr(target, "describe") and hasattr(target, "load"):
        source: Source = target() if isinstance(target, type) else target
        return source
    return _Own(entry)


def forget_own() -> None:
    """Call the functions of users' data sets again the next time."""
    with _lock:
        _known.clear()


@dataclass(eq=False)
class _Found:
    """What a user's function has returned.

    Attributes:
        target: the function; alive, so that nothing else gets its id.
        classes: class names, indexed by label.
        scans: of each split.
        parts: the splits themselves; None once they are loaded, as their memory may be needed.
    """

    target: Any
    classes: tuple[str, ...]
    scans: dict[str, Scan]
    parts: dict[str, Part] | None

    @property
    def digest(self) -> str:
        sha = hashlib.sha256(repr(self.classes).encode())
        for role, each in self.scans.items():
            sha.update(f"{role} {each.digest}\n".encode())
        return f"sha256:{sha.hexdigest()[:16]}"

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        return sum((each.sizes for each in self.scans.values()), Counter())


@dataclass(frozen=True)
class _Own:
    """See `Source`."""

    entry: Entry

    #: Ends the message about a digest that is not the trial's.
    or_else = ". Or the plug-in draws at random: let it use a fixed seed"

    @property
    def where(self) -> str:
        """What the images are, for the message about other ones."""
        return f"of {self.entry.name}"

    def describe(self, config: TrialConfig, root: Path) -> DataInfo:
        """Return shape and classes; the function is called for that, once per process."""
        found = self._found(config, root)
        fixed = "test" in found.scans and "val" not in found.scans
        count = len(found.scans["train"].labels) if fixed else None
        return DataInfo(self._shape(found, config), found.classes, count, has_val="val" in found.scans)

    def notes(self, config: TrialConfig, root: Path) -> tuple[str, ...]:
        """Return what the data is, one line per fact: see `data_notes`."""
        found = self._found(config, root)
        return _notes(found, config, self._shape(found, config))

    def digest(self, config: TrialConfig, root: Path) -> str:
        """Return a digest of every pixel, label and class name, and their order."""
        return self._found(config, root).digest

    def load(self, config: TrialConfig, root: Path, *, download: bool) -> RawData:
        """Return the images at `image_size`; those of a map-style Dataset are streamed if they are too many."""
        with _lock:
            found = self._found(config, root, with_parts=True)
            parts = found.parts or {}
            if any(isinstance(part, ArrayPart) for part in parts.values()):
                found.parts = None
        if config.data_digest not in (None, found.digest):
            raise OtherDataError(f"The images of {self.entry.name} have changed in the meantime")
        shape = self._shape(found, config)
        items = sum(len(part) for part in parts.values() if isinstance(part, ItemPart))
        streamed = too_large(config, items, shape) if items else ""
        with self._explained():
            made = self._splits(config, found, parts, shape, streams=bool(streamed))
        notes = (*_notes(found, config, shape), *filter(None, [streamed]))
        source = str(root) if "data_dir" in self._arguments(config, root) else self.entry.name
        return RawData(made["train"], made.get("test"), found.classes, source, made.get("val"), notes)

    def _splits(
        self,
        config: TrialConfig,
        found: _Found,
        parts: dict[str, Part],
        shape: tuple[int, int, int],
        *,
        streams: bool,
    ) -> dict[str, Split]:
        lazy = [part for part in parts.values() if isinstance(part, ItemPart)]
        fit = _Fit(shape[0], config.image_size, config.resize, config.background)
        decoder = _Decoder(tuple(lazy), shape, fit, found.digest, self.entry.module, self.entry.name)
        loaders = Loaders(decoder) if streams else None
        made: dict[str, Split] = {}
        at = 0
        for role, part in parts.items():
            labels = found.scans[role].labels
            if loaders is not None and isinstance(part, ItemPart):
                places = torch.arange(at, at + len(part))
                made[role] = StreamSplit(loaders, places, torch.from_numpy(labels.copy()))
                at += len(part)
            else:
                what = f"{self.entry.name}: {role}"
                made[role] = make_split(_filled(part, fit, shape), labels, len(found.classes), what)
        return made

    def _shape(self, found: _Found, config: TrialConfig) -> tuple[int, int, int]:
        """Return the shape of the images that the model gets.

        Raises:
            DataError: they differ, and cannot be made equal.
        """
        channels = {each for part in found.scans.values() for each in part.channels}
        if len(channels) > 1 and channels != {1, 3}:
            counts = " and ".join(map(str, sorted(channels)))
            raise DataError(
                f"{self._name}: all images must have the same number of channels, but have {counts}"
            )
        if config.image_size is not None:
            return max(channels), config.image_size, config.image_size
        if len(found.sizes) > 1:
            raise DataError(
                f"{self._name}: set image_size, the side in pixels (--image-size 64), because the images have different"
                f" sizes: {sizes_in_words(found.sizes)}"
            )
        ((width, height),) = found.sizes
        return max(channels), height, width

    def _found(self, config: TrialConfig, root: Path, *, with_parts: bool = False) -> _Found:
        """Return what the function returns with this config's values; the latest few are remembered."""
        arguments = self._arguments(config, root)
        target = self.entry.load()
        key = (id(target), self.entry.name, config.background, *arguments.items())
        with _lock:
            found = _known.get(key)
            if found is None or (with_parts and found.parts is None):
                with self._explained():
                    found = _called(target, arguments, config.background)
                for other in _known.values():
                    other.parts = None  # one at a time in memory
                _known[key] = found
            _known.move_to_end(key)
            while len(_known) > _KEPT:
                _known.popitem(last=False)
            return found

    def _arguments(self, config: TrialConfig, root: Path) -> dict[str, Any]:
        """Return the values of its own settings, and of those of lab that its parameters name."""
        own = {name: getattr(config, name) for name in self.entry.parameters}
        target = self.entry.load()
        if not callable(target) or _is_dataset(target):
            return own
        named = inspect.signature(target).parameters
        options = {name: getattr(config, name) for name in self.entry.options if name in named}
        return own | options | ({"data_dir": root} if "data_dir" in named else {})

    @property
    def _name(self) -> str:
        of = f" of {self.entry.module}" if self.entry.module and ":" not in self.entry.name else ""
        return f"dataset {self.entry.name}{of}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn whatever the user's code raises into one error that names it, and its line."""
        try:
            yield
        except DataError as error:
            raise type(error)(f"{self._name}: {error}") from error
        except (LabError, MemoryError):
            raise
        except FileNotFoundError as error:  # another machine may have it
            raise MissingDataError(f"{self._name}: {_told(error, self.entry)}") from error
        except Exception as error:
            raise DataError(f"{self._name}: {_told(error, self.entry)}") from error


@dataclass(frozen=True)
class _Fit:
    """How images are fitted; see `fitted`."""

    channels: int
    size: int | None
    resize: str
    background: str

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return fitted(image, self.channels, self.size, self.resize, self.background)


@dataclass(frozen=True)
class _Decoder:
    """Makes the images of several map-style datasets, one after another; see `Decodes`.

    It is sent to other processes with the classes of a plug-in that is a file, which they could not import.
    """

    parts: tuple[ItemPart, ...]
    shape: tuple[int, int, int]
    fit: _Fit
    digest: str
    module: str
    name: str

    @property
    def identity(self) -> str:
        return f"{self.digest} {self.shape} {self.fit}"

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __call__(self, at: int) -> NDArray[np.uint8]:
        for part in self.parts:
            if at < len(part):
                break
            at -= len(part)
        try:
            image = self.fit(item(part, at)[0])
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error
        except Exception as error:
            raise DataError(f"{self.name}: image {at}: {type(error).__name__}: {error}") from error
        if image.shape != (*self.shape[1:], self.shape[0]):
            raise DataError(f"{self.name}: image {at} has changed its size since training began")
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        with _by_value(self.module):
            parts = _pickle.dumps(self.parts)
        return _restored, (parts, self.shape, self.fit, self.digest, self.module, self.name)


def _restored(parts: bytes, *others: Any) -> _Decoder:
    return _Decoder(_pickle.loads(parts), *others)


@contextmanager
def _by_value(module: str) -> Iterator[None]:
    """Let what a plug-in's file defines be pickled with its code, inside the block."""
    is_file = any(kept["text"] for kept in plugins.records([module])) and module in sys.modules
    if is_file:
        _pickle.register_pickle_by_value(sys.modules[module])
    try:
        yield
    finally:
        if is_file:
            with suppress(ValueError):  # another thread has finished first
                _pickle.unregister_pickle_by_value(sys.modules[module])


def _called(target: Any, arguments: dict[str, Any], background: str) -> _Found:
    """Call a user's function, and look at every image that it returns.

    Raises:
        DataError: they have another form.
        Exception: whatever the user's code raises.
    """
    parts, classes = parts_of(target if _is_dataset(target) else target(**arguments), background)
    scans = {}
    for role, part in parts.items():
        try:
            scans[role] = scan(part)
        except DataError as error:
            raise type(error)(f"{role}: {error}") from error
    highest = max(int(each.labels.max()) for each in scans.values())
    classes = classes or tuple(map(str, range(highest + 1)))
    if len(classes) < 2:
        raise DataError("at least 2 classes are needed")
    for role, each in scans.items():
        low, high = int(each.labels.min()), int(each.labels.max())
        if low < 0 or high >= len(classes):
            raise DataError(f"{role}: labels must lie in 0..{len(classes) - 1}, but got {low}..{high}")
    missing = [name for label, name in enumerate(classes) if not (scans["train"].labels == label).any()]
    if missing:
        raise DataError(f"every class needs training images, but there are none of {some(missing)}")
    return _Found(target, classes, scans, parts)


def _is_dataset(target: Any) -> bool:
    """Whether a target is a dataset already, not what makes one."""
    return not inspect.isclass(target) and hasattr(target, "__getitem__") and hasattr(target, "__len__")


def _filled(part: Part, fit: _Fit, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return all images of a part, [N, H, W, C]."""
    expected = (*shape[1:], shape[0])
    if (
        isinstance(part, ArrayPart)
        and isinstance(part.images, np.ndarray)
        and part.images.shape[1:] == expected
    ):
        return part.images
    images = np.empty((len(part), *expected), np.uint8)
    for at in track(((1, at) for at in range(len(part))), len(part), "Loading images"):
        image = fit(item(part, at)[0])
        if image.shape != expected:
            raise DataError(f"image {at} has changed its size since it was first looked at")
        images[at] = image
    return images


def _notes(found: _Found, config: TrialConfig, shape: tuple[int, int, int]) -> tuple[str, ...]:
    kept = config.classes or found.classes
    lines = []
    for role, each in found.scans.items():
        counts = Counter(
            {name: int((each.labels == label).sum()) for label, name in enumerate(found.classes)}
        )
        lines.append(f"{role}: {in_classes(Counter({name: counts[name] for name in kept if counts[name]}))}")
    lines += cut(found.scans, config)
    lines += left_out_classes(found.classes, config)
    _, height, width = shape
    lines.append(size_note(config, found.sizes, width) if height == width else f"size: {width}x{height}")
    return tuple(lines)


def _told(error: Exception, entry: Entry) -> str:
    """Return an error of the user's code in words, with its line if that is in the file of the plug-in."""
    target = entry.load()
    code = target if inspect.isclass(target) or inspect.isroutine(target) else type(target)
    file = ""
    with suppress(TypeError, OSError):
        file = inspect.getsourcefile(code) or ""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    line = next((frame.lineno for frame in reversed(frames) if file and frame.filename == file), None)
    place = f" ({file}, line {line})" if line else ""
    return f"{type(error).__name__}: {error}{place}"
