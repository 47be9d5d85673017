"""Writes a trained net as an MLflow model. Importing this imports torch, which looking at runs must not wait for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow.pytorch
import numpy as np
import PIL
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils import requirements_utils
from torch import Tensor, nn

from lab.data import INTAKE, Intake
from lab.tracking.export import example_batch, exporting, portable
from lab.tracking.pyfunc import add_pictures
from lab.tracking.templates import Template, likeness

__all__ = ["save_model"]

_MOST = 32  # templates to keep: of small nets, each takes 60 KiB
_templates: OrderedDict[tuple[object, ...], Template] = OrderedDict()
_VERSIONS = {"torch": str(torch.__version__), "numpy": np.__version__, "pillow": PIL.__version__}


def save_model(model: nn.Module, example: Tensor, folder: Path, intake: Intake | None = None) -> None:
    """Write `model` to `folder` as an MLflow model, without ids of a store; with `intake` also as one for pictures."""
    twin, batch = portable(model), example_batch(example)
    kind = likeness(twin)
    key = (kind, batch.shape, intake is None)
    template = _templates.get(key)
    if template is not None:
        with exporting():
            template.write(folder, twin)
    else:
        _trace(twin, batch, folder, pictures=intake is not None)
        if kind is not None:
            _keep(key, Template.of(folder, twin))
    if intake is not None:
        (folder / INTAKE).write_text(intake.to_json())


def _keep(key: tuple[object, ...], template: Template | None) -> None:
    if template is not None:
        _templates[key] = template
        if len(_templates) > _MOST:
            _templates.popitem(last=False)


def _trace(twin: nn.Module, batch: Tensor, folder: Path, *, pictures: bool) -> None:
    with torch.no_grad():
        classes = twin(batch).shape[1:]
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (-1, *batch.shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, *classes))]),
    )
    with exporting(), _without_list_of_packages():
        mlflow.pytorch.save_model(
            twin,
            str(folder),
            signature=signature,
            # with a tensor, MLflow adds no face of its own for other programs
            input_example=batch if pictures else batch.numpy(),
            pip_requirements=_requirements(),
            serialization_format="pt2",
        )
    if pictures:
        add_pictures(folder)


def _requirements() -> list[str]:
    # given here, because MLflow would find them by loading the model in another process, which takes seconds;
    # without the `+cpu` of builds that PyPI does not have. Not lab itself: on PyPI, that is another package.
    return [f"{name}=={version.partition('+')[0]}" for name, version in _VERSIONS.items()]


@contextmanager
def _without_list_of_packages() -> Iterator[None]:
    """Keep MLflow from listing the files of all installed packages, to check that `_VERSIONS` are installed."""
    # None until it has listed them, for requirements that it infers
    known = requirements_utils._MODULES_TO_PACKAGES
    requirements_utils._MODULES_TO_PACKAGES = known or {}  # type: ignore[assignment]
    try:
        yield
    finally:
        requirements_utils._MODULES_TO_PACKAGES = known or None
