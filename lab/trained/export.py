"""Files of a trained model that other programs load, without lab."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from lab.data import INTAKE
from lab.errors import LabError
from lab.extras import require
from lab.files import replacing
from lab.trained.model import TrainedModel

__all__ = ["FORMATS", "export"]

_INPUT, _OUTPUT = "images", "probabilities"
_ANY_NUMBER: Final = ({0: torch.export.Dim("batch")},)  # of images


class _Pixels(nn.Module):
    """A net that takes pixels, uint8 [B, C, H, W], and returns probabilities, float32 [B, classes].

    Scale and shift are as in `lab.data.normalise`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("scale", (1 / (255 * std)).view(-1, 1, 1))
        self.register_buffer("shift", (-mean / std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images.float() * self.scale + self.shift)
        return logits.softmax(1)


def export(model: TrainedModel, form: str, out: Path) -> None:
    """Write `model` to a file, in place of an older one.

    Args:
        model: on the CPU.
        form: one of `FORMATS`.
        out: the file.

    Raises:
        LabError: the net cannot be exported in this form, what that needs is not installed, or the file cannot be
            written.
    """
    try:
        content = FORMATS[form](model)
    except LabError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise LabError(
            f"The model of run {model.run_id} cannot be exported as {form}: {type(error).__name__}: {first}"
        ) from error
    try:
        with replacing(out) as part:
            part.write_bytes(content)
    except OSError as error:
        raise LabError(f"{out} cannot be written: {error.strerror or error}") from None


def _torch(model: TrainedModel) -> bytes:
    """Return a file of tensors and plain values, for `torch.load(FILE, weights_only=True)`."""
    buffer = io.BytesIO()
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.net.state_dict().items()}
    torch.save(
        {
            "state_dict": weights,
            "config": model.config.as_values(),
            "intake": json.loads(model.intake.to_json()),
        },
        buffer,
    )
    return buffer.getvalue()


def _pt2(model: TrainedModel) -> bytes:
    """Return a graph, for `torch.export.load(FILE)`."""
    buffer = io.BytesIO()
    torch.export.save(_program(model), buffer, extra_files={INTAKE: model.intake.to_json()})
    return buffer.getvalue()


def _onnx(model: TrainedModel) -> bytes:
    """Return an ONNX graph."""
    for module in ("onnx", "onnxscript"):
        require(module, "onnx", "--format onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what other versions of torch will do
        found = torch.onnx.export(
            _pixels(model),
            (_images(model),),
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_shapes=_ANY_NUMBER,
            dynamo=True,
            verbose=False,
        )
    if found is None:
        raise LabError("torch.onnx has returned no graph")
    for key, text in _described(model).items():
        found.model.metadata_props[key] = text
    return bytes(found.model_proto.SerializeToString())


def _program(model: TrainedModel) -> torch.export.ExportedProgram:
    """Return the graph from pixels to probabilities, for any number of images."""
    with torch.no_grad():
        return torch.export.export(_pixels(model), (_images(model),), dynamic_shapes=_ANY_NUMBER)


def _pixels(model: TrainedModel) -> nn.Module:
    net = _Pixels(model.net, *model.intake.scale(model.device)).eval().requires_grad_(False)
    return net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def _images(model: TrainedModel) -> Tensor:
    return torch.zeros(2, *model.intake.shape, dtype=torch.uint8)  # one would become a constant of the graph


def _described(model: TrainedModel) -> Mapping[str, str]:
    """Return what an ONNX file says about itself."""
    return {
        "run_id": model.run_id,
        "classes": json.dumps(model.intake.classes),
        "intake": model.intake.to_json(),
    }


#: What `export` writes, by name.
FORMATS: Final[Mapping[str, Callable[[TrainedModel], bytes]]] = {"torch": _torch, "onnx": _onnx, "pt2": _pt2}
