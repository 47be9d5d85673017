"""The settings of a trial that takes a moment and whose net has buffers, too."""

from __future__ import annotations

from typing import Any

__all__ = ["TINY"]

TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "image_size": 8,
    "filters": (4, 4),
    "norm": "batch",
    "batch_size": 256,
    "epochs": 2,
    "patience": None,
    "lr": 0.01,
    "threads": 1,
}
