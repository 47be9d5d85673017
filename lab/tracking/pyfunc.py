"""The second face of a logged model: pictures in, names of classes and their probabilities out.

`mlflow models serve` and `mlflow.pyfunc.load_model` import this module by its name, which every model has stored: it
stays. (The first face, `mlflow.pytorch.load_model`, takes and returns tensors.)
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import mlflow.pyfunc
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model as ModelFile
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Map
from torch import nn

from lab.data import INTAKE, Intake
from lab.errors import DataError

__all__ = ["Pictures", "add_pictures"]

_COLUMN: Final = "image"
_FOLDER: Final = "folder"  # key of MLflow's `model_config`
_GRAPH: Final = "data/model.pt2"
_BATCH: Final = 128

_SIGNATURE: Final = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, _COLUMN)]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(Map(DataType.double), "probabilities"),
        ]
    ),
)


def add_pictures(folder: Path) -> None:
    """Add this face to the MLflow model in `folder`, which `mlflow.pytorch.save_model` has written.

    It reads the model's intake from the file `INTAKE` there.
    """
    described = ModelFile.load(str(folder))
    described.signature = _SIGNATURE
    mlflow.pyfunc.add_to_model(
        described,
        loader_module=__name__,
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_config={_FOLDER: None},  # whoever loads the model may set it
    )
    described.save(str(folder / "MLmodel"))


class Pictures:
    """A model that takes pictures.

    Args:
        graph: takes float32 [B, C, H, W] in 0..1 and returns logits [B, classes].
        intake: how a picture becomes such an image.
        folder: below which paths are read; without one, a text is the base64 of a picture's file.
    """

    def __init__(self, graph: nn.Module, intake: Intake, folder: Path | None = None) -> None:
        self._graph = graph
        self._intake = intake
        self._folder = folder

    def predict(self, pictures: pd.DataFrame) -> pd.DataFrame:
        """Return a row for each picture: label, probability, and probabilities (of every class by its name).

        Args:
            pictures: a DataFrame with the column `image`: a picture file's bytes, or their base64 as a text; or
                a path, if the model was loaded with `model_config={"folder": FOLDER}`.

        Raises:
            MlflowException: one is no picture; says which and why. (A server answers 400.)
        """
        given = list(pictures[_COLUMN])
        rows = [row for start in range(0, len(given), _BATCH) for row in self._rows(given, start)]
        return pd.DataFrame(rows, columns=["label", "probability", "probabilities"])

    def _rows(self, given: Sequence[Any], start: int) -> Iterator[tuple[str, float, dict[str, float]]]:
        try:
            images = [
                self._read(each, number) for number, each in enumerate(given[start : start + _BATCH], start)
            ]
        except DataError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)  # [B, C, H, W]
        with torch.inference_mode():
            probabilities = self._graph(batch.float() / 255).softmax(1)
        for found in probabilities.tolist():
            best = max(range(len(found)), key=found.__getitem__)
            yield self._intake.classes[best], found[best], dict(zip(self._intake.classes, found, strict=True))

    def _read(self, given: Any, number: int) -> Any:
        name = f"image {number}"
        if isinstance(given, str) and self._folder is not None:
            return self._intake.read(given, _file(self._folder, given))
        if not isinstance(given, str | bytes):
            raise DataError(f"{name}: expected the bytes of a picture's file, but got {type(given).__name__}")
        return self._intake.read(name, _decoded(given, name))


def _file(folder: Path, path: str) -> bytes:
    """Return the contents of a file below `folder`; a request must not read others."""
    if "\0" in path:
        raise DataError(f"{path!r}: is no path")
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise DataError(f"{path}: is not below {folder}")
    if not file.is_file():
        raise DataError(f"{path}: there is no such file below {folder}")
    return file.read_bytes()


def _decoded(given: str | bytes, name: str) -> bytes:
    """Return the bytes of a picture's file, given themselves or as base64, which MLflow decodes in most requests."""
    try:
        return base64.b64decode(given, validate=True)
    except ValueError:
        if isinstance(given, bytes):
            return given
    hint = "paths are read only if the model is loaded with model_config={'folder': FOLDER}"
    raise DataError(f"{name}: a text must be the base64 of a picture's file, but is not; {hint}")


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Pictures:
    """Return the model saved in the folder `path`: MLflow calls this."""
    try:
        intake = Intake.from_json(Path(path, INTAKE).read_text())
    except DataError as error:
        raise MlflowException(f"The model's {INTAKE} {error}") from None
    graph = torch.export.load(Path(path, _GRAPH)).module()
    folder = (model_config or {}).get(_FOLDER)
    return Pictures(graph, intake, None if folder is None else Path(folder))
