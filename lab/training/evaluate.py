"""Evaluation of a model on a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, overload

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
    # All that is kept is allocated before the first activations: kept between them, it would leave gaps into which the
    # next ones do not fit, and a test of a small net took 370 MB more.
    loss = torch.zeros((), device=device)
    predicted = torch.empty_like(split.labels)
    details = None if top_k is None else _Details.of(split, top_k, len(dataset.classes))
    batch_size = evaluation_batch(device)
    training = model.training
    model.eval()
    collecting = [collector for collector in (details, metrics) if collector is not None]
    done = 0
    with torch.inference_mode(), autocast(config, device):
        for images, labels in epoch_batches(split, batch_size=batch_size, mean=dataset.mean, std=dataset.std):
            logits = model(images)  # [B, classes]
            loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            predicted[done : done + len(labels)] = logits.argmax(1)
            done += len(labels)
            for collector in collecting:
                collector.add(logits, labels)
            del images, labels, logits  # before the next ones are made
        chosen = {} if metrics is None else metrics.values()
    model.train(training)
    correct = (predicted == split.labels).sum()
    # the only reads come at the end: each waits for the device
    evaluation = Evaluation(loss.item() / len(split), correct.item() / len(split), predicted, metrics=chosen)
    return evaluation if details is None else details.added_to(evaluation)


@dataclass
class _Details:
    """What a `DetailedEvaluation` adds, on the device; the first `done` images have theirs.

    `hits`, bool [N], tells whether an image's class is among the `top_k` most likely; None if there are no more.
    """

    top_k: int
    confidences: Tensor
    probabilities: Tensor
    likeliest: Tensor | None
    hits: Tensor | None
    done: int = 0

    @classmethod
    def of(cls, split: Split, top_k: int, classes: int) -> Self:
        """Return room for the details of each image of `split`."""
        images, device = len(split), split.device
        is_whole = classes <= _MOST_WHOLE
        kept = (images, classes if is_whole else _LIKELIEST)
        return cls(
            top_k,
            confidences=torch.empty(images, device=device),
            probabilities=torch.empty(kept, device=device),
            likeliest=None if is_whole else torch.empty(kept, dtype=torch.int64, device=device),
            hits=torch.empty(images, dtype=torch.bool, device=device) if top_k < classes else None,
        )

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add the next batch: logits [B, classes] and labels, int64 [B]."""
        added = slice(self.done, self.done + len(labels))
        probabilities = logits.float().softmax(1).nan_to_num(0.0)  # [B, classes]
        self.confidences[added] = probabilities.amax(1)
        if self.likeliest is not None:
            probabilities, self.likeliest[added] = probabilities.topk(_LIKELIEST)  # [B, k] each
        self.probabilities[added] = probabilities
        if self.hits is not None:
            likeliest = logits.topk(self.top_k).indices  # [B, k]
            self.hits[added] = (likeliest == labels[:, None]).any(1)
        self.done = added.stop

    def added_to(self, evaluation: Evaluation) -> DetailedEvaluation:
        """Return `evaluation` with the details of all images."""
        return DetailedEvaluation(
            **vars(evaluation),
            confidences=self.confidences,
            top_k=self.top_k,
            top_k_accuracy=None if self.hits is None else self.hits.double().mean().item(),
            probabilities=self.probabilities,
            likeliest=self.likeliest,
        )
