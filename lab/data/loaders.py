"""Processes that decode images ahead of training, in the order in which it needs them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from lab.children import child_context, share_of_cores, single_threaded_imports, without_script
from lab.errors import DataError, LabError, ResourceError

__all__ = ["Batches", "Decodes", "Loaders"]

_pickle: Any = cloudpickle  # it is not typed

_MOST = 16  # processes: more would wait for the one that reads from them
_AHEAD = 2  # batches that each decodes in advance
_PATIENCE = 3  # deaths in a row, without a batch between them, that are nobody's chance
_KILLED = (
    "The processes that decode images were killed again and again, most likely because memory ran out;"
    " use fewer workers, or a smaller batch_size"
)
_PRELOADED = ["lab.data.loaders", "lab.data.decode"]


class Batches(Protocol):
    """The indices of the images of each batch, by the number of the batch."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def __getitem__(self, number: int) -> list[int]:
        """Return the indices of a batch's images."""


class Decodes(Protocol):
    """Makes a dataset's images, one at a time; it is sent to other processes by cloudpickle."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, [C, H, W]."""

    @property
    def identity(self) -> str:
        """A text that changes with any pixel of any image."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __call__(self, at: int) -> NDArray[np.uint8]:
        """Return the image at an index, [H, W, C].

        Raises:
            DataError: it cannot be read; names its file.
        """


class Loaders:
    """The processes that decode the images of one dataset, for all of its splits.

    They are started when they are first needed, and end with this object or with this process, however that ends. One
    that was killed is replaced. They take part in no random draw, and do not change torch's.

    Args:
        decoder: makes the images.
    """

    def __init__(self, decoder: Decodes) -> None:
        self.decoder = decoder
        self._idle: list[_Loader] = []
        self._context = child_context(_PRELOADED)  # gets ready while this process goes on

    def load(self, batches: Batches, *, pinned: bool) -> Iterator[Tensor]:
        """Yield the images of each batch, uint8 [B, H, W, C], in order.

        Args:
            batches: the indices of the images of each batch.
            pinned: whether to yield memory that a GPU can copy from while both go on.

        Raises:
            DataError: an image cannot be read; names its file.
            ResourceError: the processes are killed again and again.
        """
        done = deaths = 0
        while done < len(batches):
            loader = self._take(pinned)
            try:
                for images in loader.load(batches[number] for number in range(done, len(batches))):
                    done, deaths = done + 1, 0
                    yield images
            except _KilledError as death:
                deaths += 1
                if deaths == _PATIENCE:
                    raise ResourceError(f"{_KILLED} ({death})") from death
            finally:
                if loader.is_alive:
                    self._idle.append(loader)

    def _take(self, pinned: bool) -> _Loader:
        if self._idle and self._idle[-1].pinned != pinned:
            self._idle.clear()
        return self._idle.pop() if self._idle else _Loader(self.decoder, pinned, self._context)


class _KilledError(Exception):
    """One of the processes was killed."""


class _Loader:
    """A `DataLoader` whose processes outlive an epoch."""

    def __init__(self, decoder: Decodes, pinned: bool, context: Any) -> None:
        self.pinned = pinned
        self.is_alive = True
        self._plan = _Plan()
        self._loader: DataLoader[Any] = DataLoader(
            _Images(decoder),  # type: ignore[arg-type]  # `__getitems__` is all that is called
            batch_sampler=self._plan,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # its argument is what `__getitems__` returns
            num_workers=min(share_of_cores(), _MOST),
            prefetch_factor=_AHEAD,
            persistent_workers=True,
            pin_memory=pinned,
            worker_init_fn=_begin,
            multiprocessing_context=context,
            generator=torch.Generator(),  # otherwise it draws from torch's own, and training changes
        )

    def load(self, batches: Iterable[list[int]]) -> Iterator[Tensor]:
        """Yield the images of each batch; what an earlier call has left undone is forgotten."""
        self._plan.batches = batches
        try:
            with single_threaded_imports(), without_script():
                found = iter(self._loader)
            for images in found:
                if isinstance(images, LabError):
                    raise images
                yield images.tensor() if isinstance(images, _Pixels) else images
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            self.is_alive = False
            raise _KilledError(str(error)) from error


class _Plan:
    """The batches that a `DataLoader` asks for when its next epoch begins."""

    batches: Iterable[list[int]] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


@dataclass(frozen=True)
class _Pixels:
    """Images, uint8 [B, H, W, C], on their way through a pipe.

    Tensors would travel through shared memory, of which containers have 64 MB unless told otherwise.
    """

    array: NDArray[np.uint8]

    def tensor(self) -> Tensor:
        return torch.from_numpy(self.array)

    def pin_memory(self) -> Tensor:
        """Called by a thread of `DataLoader` if that is to pin."""
        return self.tensor().pin_memory()


class _Images:
    """What a loader's process runs: decodes batches, and answers with an error instead of raising it."""

    def __init__(self, decoder: Decodes) -> None:
        try:
            self._pickled: bytes = _pickle.dumps(decoder)
        except Exception as error:  # whatever an object of the user's raises
            raise DataError(
                f"{type(decoder).__name__} cannot be sent to the processes that decode images: {error}. Define it in"
                " a separate module, or set data_in_memory: true"
            ) from error
        self._decoder: Decodes | None = None

    def __getitems__(self, places: list[int]) -> _Pixels | LabError:
        if self._decoder is None:
            self._decoder = _pickle.loads(self._pickled)
            self._pickled = b""
        try:
            return _Pixels(_decode(self._decoder, places))
        except LabError as error:
            return error


def _decode(decoder: Decodes, places: list[int]) -> NDArray[np.uint8]:
    channels, height, width = decoder.shape
    images = np.empty((len(places), height, width, channels), np.uint8)
    for target, at in zip(images, places, strict=True):
        target[:] = decoder(at)
    return images


def _as_it_is(images: _Pixels | LabError) -> _Pixels | LabError:
    return images


def _begin(_number: int) -> None:
    """Prepare a loader's process: it ends with the one that it works for, whatever kills that."""
    warnings.simplefilter("ignore")  # Pillow's, about metadata
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(0)
