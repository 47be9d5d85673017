"""Nets that differ in nothing but their weights are traced once: the next ones are written over the first one's files.

Tracing takes most of the time that saving a small net takes, and the trials of a study often share their net.
"""

from __future__ import annotations

import filecmp
import io
import json
import pickle
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, Self

from mlflow.models import Model as ModelFile
from torch import Tensor, nn
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

__all__ = ["Template", "likeness"]

_GRAPH: Final = "data/model.pt2"
_DESCRIPTION: Final = "MLmodel"
_OWN_FACTS: Final = ("model_uuid", "utc_time_created")  # of each model's description

# in the graph's archive
_WEIGHTS: Final = "data/weights"
_CONTENTS: Final = f"{_WEIGHTS}/model_weights_config.json"
_OF_THE_ARCHIVE: Final = (".data/", "byteorder")  # what its writer adds by itself

# The modules and packages whose classes do the same whenever they are given the same; users' own may not.
_KNOWN: Final = frozenset({"builtins", "collections", "torch"})
_KNOWN_PACKAGES: Final = ("lab.", "timm.", "torch.nn.", "torchvision.")


def likeness(model: nn.Module) -> bytes | None:
    """Return what determines the graph of `model`: all but the values of its weights. Nets alike have it in common.

    Returns:
        None for a net with parts that are no layers of lab, torch or torchvision, or with tensors besides its state.
    """
    pickled = io.BytesIO()
    try:
        _Pickler(model, pickled).dump(model)
    except Exception:  # noqa: BLE001  # whatever cannot be pickled
        return None
    return pickled.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles a net without the values of its weights; refuses tensors that are none, and unknown classes."""

    def __init__(self, model: nn.Module, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self._weights = {id(weight) for weight in model.state_dict(keep_vars=True).values()}
        self._numbers: dict[int, int] = {}  # of tensors and their memory, which weights may share

    def persistent_id(self, thing: Any) -> tuple[object, ...] | None:
        """Return what stands for a weight; None for what is pickled as it is."""
        if isinstance(thing, Tensor) and id(thing) in self._weights:
            return self._described(thing)
        named = thing if isinstance(thing, type | FunctionType | BuiltinFunctionType) else type(thing)
        module = named.__module__ or ""
        if isinstance(thing, Tensor) or not (module in _KNOWN or module.startswith(_KNOWN_PACKAGES)):
            raise pickle.PicklingError(f"{named} may do anything")
        return None

    def _described(self, weight: Tensor) -> tuple[object, ...]:
        memory = weight.untyped_storage()
        numbers = [
            self._numbers.setdefault(key, len(self._numbers)) for key in (id(weight), memory.data_ptr())
        ]
        place = (weight.storage_offset(), tuple(weight.shape), weight.stride(), memory.nbytes())
        return (*numbers, *place, type(weight).__name__, str(weight.dtype), weight.requires_grad)


@dataclass(frozen=True)
class Template:
    """The files of a saved model without its weights.

    Args:
        files: the contents of the files that such models share, by their path in the folder.
        description: of such models, without what each has for itself.
        records: of the graph's archive, in order: the contents of each, or whose weight it is.
    """

    files: Mapping[str, bytes]
    description: Mapping[str, Any]
    records: Mapping[str, bytes | str]

    @classmethod
    def of(cls, folder: Path, model: nn.Module) -> Self | None:
        """Return a template of `model`, which MLflow has saved in `folder`.

        Returns:
            None if it does not give the same graph again, byte for byte: torch's archive has another format.
        """
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path not in (folder / _GRAPH, folder / _DESCRIPTION)
        }
        facts = ModelFile.load(str(folder)).to_dict()
        description = {name: fact for name, fact in facts.items() if name not in _OWN_FACTS}
        with tempfile.TemporaryDirectory() as scratch:
            again = Path(scratch, Path(_GRAPH).name)  # its name is in the archive
            try:
                template = cls(files, description, _records(folder / _GRAPH))
                template._write_graph(again, model)
            except Exception:  # noqa: BLE001  # whatever is not as it is read here
                return None
            return template if filecmp.cmp(again, folder / _GRAPH, shallow=False) else None

    def write(self, folder: Path, model: nn.Module) -> None:
        """Write `model`, which is like the template's, to the new folder `folder`."""
        for name, contents in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(contents)
        (folder / _GRAPH).parent.mkdir(parents=True, exist_ok=True)
        self._write_graph(folder / _GRAPH, model)
        described = ModelFile.from_dict(dict(self.description))  # with a time of its own
        described.model_uuid = uuid.uuid4().hex
        described.save(str(folder / _DESCRIPTION))

    def _write_graph(self, file: Path, model: nn.Module) -> None:
        weights = model.state_dict()
        with PT2ArchiveWriter(str(file)) as archive:
            for name, record in self.records.items():
                archive.write_bytes(name, _bytes(weights[record]) if isinstance(record, str) else record)


def _bytes(weight: Tensor) -> bytes:
    contents: bytes = weight.numpy().tobytes()
    return contents


def _records(graph: Path) -> dict[str, bytes | str]:
    with PT2ArchiveReader(str(graph)) as archive:
        contents = json.loads(archive.read_bytes(_CONTENTS))["config"]
        weights = {f"{_WEIGHTS}/{entry['path_name']}": weight for weight, entry in contents.items()}
        return {
            name: weights[name] if name in weights else archive.read_bytes(name)
            for name in archive.get_file_names()
            if not name.startswith(_OF_THE_ARCHIVE)
        }
