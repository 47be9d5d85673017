"""How good a model is on a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.config import TrialConfig
from lab.data import Dataset, Split, epoch_batches
from lab.training.device import autocast

__all__ = ["DetailedEvaluation", "Evaluation", "evaluate"]

# Images at a time. Larger ones are somewhat faster on a CPU (250: by up to a sixth on two cores), but this is a small
# share of an epoch, and blocks of other sizes than training's took 300 MB more for a small net.
_BATCH = {"cpu": 128}
_BATCH_OTHERWISE = 500


@dataclass(frozen=True)
class Evaluation:
    """Mean cross entropy, share of right answers, and the predicted classes [N] in the split's order."""

    loss: float
    accuracy: float
    predictions: Tensor


@dataclass(frozen=True)
class DetailedEvaluation(Evaluation):
    """An evaluation that also tells how sure the model was.

    `confidences` [N], float32, are the softmax probabilities of the predicted classes (0 where the model gave NaN),
    `top_k_accuracy` the share of images whose class is among the `top_k` likeliest; None where there are no more
    classes than that.
    """

    confidences: Tensor
    top_k: int
    top_k_accuracy: float | None


@overload
def evaluate(model: nn.Module, split: Split, dataset: Dataset, config: TrialConfig) -> Evaluation: ...
@overload
def evaluate(
    model: nn.Module, split: Split, dataset: Dataset, config: TrialConfig, *, top_k: int
) -> DetailedEvaluation: ...
def evaluate(
    model: nn.Module, split: Split, dataset: Dataset, config: TrialConfig, *, top_k: int | None = None
) -> Evaluation:
    """Evaluate `model` on `split`: plain cross entropy whatever the training loss, no augmentation.

    Args:
        model: logits [B, classes] of images [B, C, H, W]; its training mode is left as it is.
        split: what to evaluate it on.
        dataset: gives mean, std and classes.
        config: gives the precision.
        top_k: asks for a `DetailedEvaluation`; nothing of it is computed otherwise.
    """
    device = split.images.device
    loss = torch.zeros((), device=device)
    predictions = []
    details = None if top_k is None else _Details(top_k, len(dataset.classes))
    batch_size = _BATCH.get(device.type, _BATCH_OTHERWISE)
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast(config, device):
        for images, labels in epoch_batches(split, batch_size=batch_size, mean=dataset.mean, std=dataset.std):
            logits = model(images)  # [B, classes]
            loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            predictions.append(logits.argmax(1))
            if details is not None:
                details.add(logits, labels)
    model.train(training)
    predicted = torch.cat(predictions)
    correct = (predicted == split.labels).sum()
    # the only reads, at the end: each one waits for the device
    evaluation = Evaluation(loss.item() / len(split), correct.item() / len(split), predicted)
    return evaluation if details is None else details.added_to(evaluation)


class _Details:
    """Gathers what a `DetailedEvaluation` has beside the rest, batch by batch, on the device."""

    def __init__(self, top_k: int, classes: int) -> None:
        self._top_k = top_k
        self._ranked = top_k < classes
        self._confidences: list[Tensor] = []  # each [B]
        self._hits: list[Tensor] = []  # each [B]

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self._confidences.append(logits.float().softmax(1).amax(1).nan_to_num(0.0))
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
        )
