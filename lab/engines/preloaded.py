"""Imported by the server that workers are forked from: what they would import before and in a first trial.

They then start in milliseconds, and share the memory.
"""

from __future__ import annotations

import gc
import importlib

from lab.logs import inherit

__all__: list[str] = []

_MODULES = (
    "lab.engines.worker_process",
    "lab.pictures.trial_figures",
    "lab.study.worker",
    "lab.tracking.mlflow",
    "lab.tracking.saving",
    "mlflow.store.tracking.sqlalchemy_store",
    "torch._dynamo",
    "torch.export._trace",
)


def _preload() -> None:
    """Import all modules; garbage is not looked for in what stays."""
    inherit()  # first, so that warnings of the imports are logged
    gc.disable()
    try:
        for name in _MODULES:
            importlib.import_module(name)
    finally:
        gc.freeze()  # collections in workers leave the pages alone that these share
        gc.enable()


_preload()
