"""Exports a trained module so that it loads without our code: a copy on the CPU, for any batch size."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lab.errors import TrackingError

__all__ = ["example_batch", "export_bytes", "exporting", "portable"]


def portable(model: nn.Module) -> nn.Module:
    """Return a copy of `model` on the CPU, in evaluation mode and the default memory layout."""
    twin = copy.deepcopy(model).to("cpu").eval()
    return twin.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def example_batch(example: Tensor) -> Tensor:
    """Return zeros of two images shaped like those of `example` [B, C, H, W]: [2, C, H, W].

    Two, because the exporter would treat a batch size of one as a constant.
    """
    return torch.zeros(2, *example.shape[1:])


@contextmanager
def exporting() -> Iterator[None]:
    """Turn whatever the exporter raises into a `TrackingError`."""
    try:
        yield
    except OSError:
        raise  # a failure of the disk
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise TrackingError(
            f"The model cannot be exported as a graph, so it is not logged: {type(error).__name__}: {first}"
        ) from error


def export_bytes(model: nn.Module, example: Tensor) -> bytes:
    """Return `model` as the contents of a `.pt2` file that takes float32 [B, C, H, W] for any B."""
    batch = example_batch(example)
    with exporting():
        program = torch.export.export(portable(model), (batch,), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()
