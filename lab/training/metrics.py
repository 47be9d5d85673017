"""The metrics that a config chooses, computed with torchmetrics on a whole split."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lab import registry
from lab.config import TrialConfig, logged_name
from lab.errors import ConfigError, Fault, LabError, LabWarning
from lab.extras import require
from lab.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["Metrics", "build_metrics", "require_torchmetrics"]

# Probabilities that are kept before the metrics see them. One update with many images, not one per batch: many of
# torchmetrics' updates make the host wait for the device, and each is dozens of small operations.
_MOST_KEPT = 2**22

_TRIED = 64  # made-up images on which metrics are tried out


class Metrics:
    """Metrics by the name under which they are logged, computed on one split after another.

    Nothing waits for the device before the end of a split, unless the split is large.
    """

    def __init__(self, metrics: Mapping[str, Metric], device: torch.device) -> None:
        self._metrics = metrics
        self._device = device
        # probabilities [B, classes] and labels [B] of each batch
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._warned: set[str] = set()

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch of the split: logits [B, classes] and labels [B]."""
        self._kept.append((logits.float().softmax(1), labels))
        if len(self._kept) * logits.numel() >= _MOST_KEPT:
            self._update()

    def values(self) -> dict[str, float]:
        """Return the metrics of the split, and begin anew.

        One that is not finite is left out, with a warning the first time.

        Raises:
            ConfigError: a metric is not a single number; names it.
        """
        found = dict(zip(self._metrics, self._computed(), strict=True))
        for name, value in found.items():
            if not math.isfinite(value) and name not in self._warned:
                self._warned.add(name)
                warnings.warn(
                    f"The metric {name} is {value} for these images, so it is not logged. Its usual cause is a class"
                    " without images, or a model that always predicts the same class",
                    LabWarning,
                    stacklevel=2,
                )
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _computed(self) -> list[float]:
        """Return the value of every metric, and reset them."""
        self._update()
        results = []
        with torch.autocast(self._device.type, enabled=False):
            for name, metric in self._metrics.items():
                results.append(_as_number(name, metric.compute()).to(self._device))
                metric.reset()
        values: list[float] = torch.stack(results).tolist()  # the only read: it waits for the device
        return values

    def _update(self) -> None:
        if not self._kept:
            return
        probabilities, labels = (torch.cat(tensors) for tensors in zip(*self._kept, strict=True))
        self._kept.clear()
        with torch.autocast(self._device.type, enabled=False):
            for metric in self._metrics.values():
                metric.update(probabilities, labels)


def require_torchmetrics() -> None:
    """Import torchmetrics.

    Raises:
        LabError: it is not installed.
    """
    with suppress(Exception):
        import_torchvision()  # torchmetrics imports it too, and would fail where it needs our help
    require("torchmetrics", "torchmetrics", "The setting `metrics`")


def build_metrics(config: TrialConfig, classes: int, device: torch.device) -> Metrics | None:
    """Return the metrics of `config` for a number of classes, or None if it chooses none.

    Args:
        config: names the metrics and their settings.
        classes: number of classes.
        device: of the model.

    Raises:
        LabError: torchmetrics is not installed.
        ConfigError: a metric is no torchmetrics.Metric, fails, or gives more than one number; or it does not fit the
            number of classes.
    """
    if not config.metrics:
        return None
    require_torchmetrics()
    metrics = {logged_name(name): _build(name, config, classes).to(device) for name in config.metrics}
    _try_out(metrics, classes, device)
    return Metrics(metrics, device)


def _build(name: str, config: TrialConfig, classes: int) -> Metric:
    from torchmetrics import Metric

    entry = registry.metrics[name]
    build = entry.load()
    options: dict[str, Any] = entry.arguments(config)
    taken = inspect.signature(build).parameters
    if "num_classes" in taken:
        options["num_classes"] = classes
    if "validate_args" in taken:
        options["validate_args"] = False  # the checks of torchmetrics make the host wait for the device
    with _explained(name):
        metric = build(**options)
    if not isinstance(metric, Metric):
        message = f"'{name}' must be a torchmetrics.Metric or a function that returns one, but it gives a"
        raise ConfigError(Fault(f"{message} {type(metric).__name__}", "metrics"))
    return metric


def _try_out(metrics: Mapping[str, Metric], classes: int, device: torch.device) -> None:
    """Compute every metric on made-up images, to refuse before training what fails or is not a single number."""
    labels = torch.arange(_TRIED, device=device) % min(classes, _TRIED // 4)
    probabilities = F.one_hot(labels, classes).float().softmax(1)
    for name, metric in metrics.items():
        with warnings.catch_warnings(), torch.inference_mode(), _explained(name):
            warnings.simplefilter("ignore")
            metric.update(probabilities, labels)
            _as_number(name, metric.compute())
        metric.reset()


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever a metric raises into an error that names it."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:
        raise ConfigError(Fault(f"'{name}' fails: {type(error).__name__}: {error}", "metrics")) from error


def _as_number(name: str, result: Any) -> Tensor:
    """Return the result of a metric as a tensor without dimensions."""
    if isinstance(result, int | float):
        return torch.tensor(float(result))
    if isinstance(result, Tensor) and result.numel() == 1:
        return result.detach().reshape(()).float()
    shape = (
        f"a tensor of shape {list(result.shape)}"
        if isinstance(result, Tensor)
        else f"a {type(result).__name__}"
    )
    message = f"'{name}' must give a single number, such as a mean over the classes, but it gives {shape}"
    raise ConfigError(Fault(message, "metrics"))
