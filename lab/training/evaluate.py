"""Evaluation of a model on a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.config import TrialConfig
from lab.data import Dataset, Split, epoch_batches
from lab.training.device import autocast

if TYPE_CHECKING:
    from lab.training.metrics import Metrics

__all__ = ["DetailedEvaluation", "Evaluation", "evaluate", "evaluation_batch"]

# Images per batch. Larger batches are slightly faster on a CPU (250: up to a sixth on two cores), but evaluation is a
# small share of an epoch, and memory blocks of other sizes than in training took 300 MB more for a small net.
_BATCH = {"cpu": 128}
_BATCH_OTHERWISE = 500

_MOST_WHOLE = 20  # classes whose probabilities are all kept
_LIKELIEST = 5  # of more classes


@dataclass(frozen=True)
class Evaluation:
    """Mean cross entropy, share of correct predictions, and the predicted classes, [N], in the split's order.

    `metrics` has the chosen ones by name, without those that are not finite for this split.
    """

    loss: float
    accuracy: float
    predictions: Tensor
    metrics: Mapping[str, float] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class DetailedEvaluation(Evaluation):
    """An evaluation that also reports how confident the model was.

    `confidences`, float32 [N], are the softmax probabilities of the predicted classes (0 if the model returned NaN).
    `top_k_accuracy` is the share of images whose class is among the `top_k` most likely; None if there are no more
    classes than that. `probabilities`, float32 [N, k], are those of all classes by label or, of more than 20 classes,
    those of the 5 likeliest, which `likeliest`, int64 [N, k], names.
    """

    confidences: Tensor
    top_k: int
    top_k_accuracy: float | None
    probabilities: Tensor
    likeliest: Tensor | None = None


def evaluation_batch(device: torch.device) -> int:
    """Return how many images `evaluate` gives to a model at once."""
    return _BATCH.get(device.type, _BATCH_OTHERWISE)


@overload
def evaluate(
    model: nn.Module, split: Split, dataset: Dataset, config: TrialConfig, *, metrics: Metrics | None = None
) -> Evaluation: ...
@overload
def evaluate(
    model: nn.Module,
    split: Split,
    dataset: Dataset,
    config: TrialConfig,
    *,
    top_k: int,
    metrics: Metrics | None = None,
) -> DetailedEvaluation: ...
def evaluate(
    model: nn.Module,
    split: Split,
    dataset: Dataset,
    config: TrialConfig,
    *,
    top_k: int | None = None,
    metrics: Metrics | None = None,
) -> Evaluation:
    """Evaluate `model` on `split`: plain cross entropy whatever the training loss, no augmentation.

    Args:
        model: takes images [B, C, H, W], returns logits [B, classes]; its training mode is restored.
        split: to evaluate on.
        dataset: provides mean, std and classes.
        config: provides the precision.
        top_k: requests a `DetailedEvaluation`, which costs nothing otherwise.
        metrics: computed as well, from `build_metrics`.

    Raises:
        ConfigError: a metric is not a single number.
    """
    device = split.device
    loss = torch.zeros((), device=device)
    predictions = []
    details = None if top_k is None else _Details(top_k, len(dataset.classes))
    batch_size = evaluation_batch(device)
    training = model.training
    model.eval()
    collecting = [collector for collector in (details, metrics) if collector is not None]
    with torch.inference_mode(), autocast(config, device):
        for images, labels in epoch_batches(split, batch_size=batch_size, mean=dataset.mean, std=dataset.std):
            logits = model(images)  # [B, classes]
            loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            predictions.append(logits.argmax(1))
            for collector in collecting:
                collector.add(logits, labels)
        chosen = {} if metrics is None else metrics.values()
    model.train(training)
    predicted = torch.cat(predictions)
    correct = (predicted == split.labels).sum()
    # the only reads come at the end: each waits for the device
    evaluation = Evaluation(loss.item() / len(split), correct.item() / len(split), predicted, metrics=chosen)
    return evaluation if details is None else details.added_to(evaluation)


class _Details:
    """Collects what a `DetailedEvaluation` adds, batch by batch, on the device."""

    def __init__(self, top_k: int, classes: int) -> None:
        self._top_k = top_k
        self._ranked = top_k < classes
        self._is_whole = classes <= _MOST_WHOLE
        self._confidences: list[Tensor] = []  # each [B]
        self._probabilities: list[Tensor] = []  # each [B, k]
        self._likeliest: list[Tensor] = []  # each [B, k]
        self._hits: list[Tensor] = []  # each [B]

    def add(self, logits: Tensor, labels: Tensor) -> None:
        probabilities = logits.float().softmax(1).nan_to_num(0.0)  # [B, classes]
        self._confidences.append(probabilities.amax(1))
        if not self._is_whole:
            probabilities, likeliest = probabilities.topk(_LIKELIEST)  # [B, k] each
            self._likeliest.append(likeliest)
        self._probabilities.append(probabilities)
        if self._ranked:
            likeliest = logits.topk(self._top_k).indices  # [B, k]
            self._hits.append((likeliest == labels[:, None]).any(1))

    def added_to(self, evaluation: Evaluation) -> DetailedEvaluation:
        accuracy = torch.cat(self._hits).double().mean().item() if self._ranked else None
        return DetailedEvaluation(
            **vars(evaluation),
            confidences=torch.cat(self._confidences),
            top_k=self._top_k,
            top_k_accuracy=accuracy,
            probabilities=torch.cat(self._probabilities),
            likeliest=None if self._is_whole else torch.cat(self._likeliest),
        )
