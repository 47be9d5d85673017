"""The only place that imports torchvision.

PyPI's torchvision is built for CUDA. With a CPU-only torch, its compiled part does not load, and the import fails
because two of its operators were never declared. Nothing here uses them, so they are declared without implementation.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch

from lab.errors import DataError

__all__ = ["import_torchvision"]

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a declaration lasts as long as its library


@functools.cache
def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Return torchvision or one of its modules (`torchvision.datasets`), usable with any build of torch.

    Raises:
        DataError: it is not installed, or is incompatible with the installed torch.
    """
    try:
        try:
            return importlib.import_module(module)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            _declare_operators()
            return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"torchvision cannot be imported with torch {torch.__version__}: {error};"
            " install the versions listed in constraints.txt"
        ) from error


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _OPERATORS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _libraries.append(library)
