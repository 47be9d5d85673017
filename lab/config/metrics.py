"""The names of metrics: what is logged under which name, whether higher is better, and how a value is written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

from lab import registry

__all__ = ["METRICS", "bounds", "in_percent", "logged_name", "monitorable", "reserved", "rises"]

#: What every epoch logs; with `metrics`, it also logs `val_NAME`, and `epoch_test_NAME` if the test split is evaluated.
METRICS: Final = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "epoch_test_loss",
    "epoch_test_accuracy",
)

_SPLIT: Final = re.compile(r"^(train|val|epoch_test|test|step)_")
_EVALUATED: Final = ("val", "epoch_test")

# Without their split, what lab logs by itself under the prefixes of a metric.
_OWN: Final = re.compile(r"loss|accuracy|macro_f1|worst_class_accuracy|top\d+_accuracy")


def logged_name(metric: str) -> str:
    """Return the name of a chosen metric in what is logged: `Weighted` for `my_metrics:Weighted`."""
    return metric.rpartition(":")[2]


def reserved(name: str) -> bool:
    """Return whether lab itself logs `val_NAME` or `test_NAME`, so that no chosen metric can be logged as `name`."""
    return _OWN.fullmatch(name) is not None


def monitorable(chosen: Iterable[str]) -> tuple[str, ...]:
    """Return what an epoch logs with the `chosen` metrics, which `monitor` can watch."""
    return (*METRICS, *(f"{split}_{logged_name(name)}" for split in _EVALUATED for name in chosen))


def rises(metric: str, chosen: Iterable[str] = ()) -> bool | None:
    """Return whether higher values of a logged metric are better; None if it does not say.

    Args:
        metric: as it is logged: `val_auroc`.
        chosen: the `metrics` of the config, if known; other registered metrics are known anyway.
    """
    for entry in _entries(metric, chosen):
        if entry.higher_is_better is not None:
            return entry.higher_is_better
        said = getattr(entry.load(), "higher_is_better", None)  # as torchmetrics' classes say
        return said if isinstance(said, bool) else None
    if metric.endswith("loss"):
        return False
    return True if metric.endswith(("accuracy", "macro_f1")) else None


def bounds(metric: str, values: Iterable[float] = ()) -> tuple[float, float]:
    """Return the lowest and the highest value that a logged metric can have.

    There are no bounds if one of `values` is beyond them, such as an accuracy in percent from another program.
    """
    lowest, highest = _bounds(metric)
    is_so = all(lowest <= value <= highest for value in values if math.isfinite(value))
    return (lowest, highest) if is_so else (-math.inf, math.inf)


def _bounds(metric: str) -> tuple[float, float]:
    for entry in _entries(metric):
        return entry.bounds or (-math.inf, math.inf)
    if metric.endswith(("accuracy", "macro_f1")):
        return 0.0, 1.0
    return (0.0 if metric.endswith(("loss", "seconds")) else -math.inf), math.inf


def in_percent(metric: str, values: Iterable[float] = ()) -> bool:
    """Return whether `values` of a logged metric are shares, which are written in percent."""
    return metric.endswith("accuracy") and all(0 <= value <= 1 for value in values if math.isfinite(value))


def _entries(metric: str, chosen: Iterable[str] = ()) -> Iterator[registry.Entry]:
    """Yield the registered metrics that are logged as `metric`."""
    name = _SPLIT.sub("", metric)
    for known in (*chosen, *registry.metrics):
        if logged_name(known) == name and known in registry.metrics:
            yield registry.metrics[known]
