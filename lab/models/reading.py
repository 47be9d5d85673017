"""Files of weights: found, downloaded, recognised by their digest, and read without running code that is in them."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor

from lab.errors import DataError, LabError, MissingDataError, printable
from lab.extras import require

__all__ = ["digest_of", "fetched", "first_difference", "read_weights", "reason", "shape_of"]

_CHUNK = 1 << 24

# Where training programs keep the state dict in what they save, in the order in which timm looks.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")


def digest_of(file: Path) -> str:
    """Return the digest of a file of weights, as the setting `weights_digest` has it.

    Raises:
        MissingDataError: there is no such file.
        DataError: it cannot be read.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # it may be a pipe that nobody writes to
            raise DataError(f"The weights {_shown(file)} cannot be read: this is not a file")
        return _digest(str(file), status.st_size, status.st_mtime_ns, status.st_ino)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingDataError(f"There is no file of weights {_shown(file)}") from None
    except OSError as error:
        raise DataError(f"The weights {_shown(file)} cannot be read: {reason(error)}") from None


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a `.safetensors` file, or in a `.pth` file as `torch.save` writes it.

    One that is saved within the state of a training program is found, too.

    Raises:
        DataError: the file cannot be read, holds other objects than tensors and plain values, or no state dict.
    """
    try:
        if file.suffix == ".safetensors":
            found: Any = require("safetensors.torch", "timm", "A .safetensors file").load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MissingDataError(f"There is no file of weights {_shown(file)}") from None
    except pickle.UnpicklingError as error:
        foreign = "GLOBAL" in str(error)
        why = (
            "it contains more than tensors and plain values" if foreign else "it is not a file of torch.save"
        )
        raise DataError(f"The weights {_shown(file)} cannot be read: {why}") from None
    except (LabError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file makes the two libraries raise
        why = reason(error).partition(". ")[0]
        raise DataError(
            f"The weights {_shown(file)} cannot be read: {why}. If the file is damaged, copy it here again"
        ) from error
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    is_mapping = isinstance(found, Mapping) and len(found) > 0
    if not is_mapping or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise DataError(
            f"The weights {_shown(file)} cannot be used: it holds no state dict, names with their tensors"
        )
    return {_bare(str(name)): tensor for name, tensor in found.items()}


def fetched(url: str, download: bool) -> Path | None:
    """Return torch.hub's copy of a file, after downloading it if that is allowed; None if it is not here."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not file.exists() and download:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=_hash_in(file.name), progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: another hash than the name says
            raise MissingDataError(f"{url} cannot be downloaded: {reason(error)}") from None
    return file if file.exists() else None


def first_difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """Return in words the first tensor of two state dicts that is missing or has another shape, empty if none."""
    for name in [*ours, *theirs]:
        here, there = shape_of(ours, name), shape_of(theirs, name)
        if here != there:
            return f"its {name} is {there}, this one's is {here}"
    return ""


def shape_of(tensors: Mapping[str, Tensor], name: str) -> str:
    """Return the shape of a tensor in words, such as 64×3×7×7."""
    if name not in tensors:
        return "missing"
    return "×".join(map(str, tensors[name].shape)) or "a number"


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    cause = getattr(error, "reason", None)  # of a URLError
    error = cause if isinstance(cause, BaseException) else error
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__


@functools.lru_cache(maxsize=64)
def _digest(file: str, _size: int, _time: int, _inode: int) -> str:
    sha = hashlib.sha256()
    with Path(file).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha.update(chunk)
    return f"sha256:{sha.hexdigest()[:16]}"


def _bare(name: str) -> str:
    """Return a parameter's name without what wrappers for several GPUs and for compilation put in front of it."""
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name


def _hash_in(name: str) -> str | None:
    """Return the beginning of the SHA-256 that torch.hub expects in a name such as resnet18-f37072fd.pth."""
    found = torch.hub.HASH_REGEX.search(name)
    return found.group(1) if found else None


def _shown(file: Path) -> str:
    return printable(os.fspath(file))
