"""How good a model is on a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.config import TrialConfig
from lab.data import Dataset, Split, epoch_batches
from lab.training.device import autocast

__all__ = ["Evaluation", "evaluate"]

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


def evaluate(model: nn.Module, split: Split, dataset: Dataset, config: TrialConfig) -> Evaluation:
    """Evaluate `model` on `split`: plain cross entropy whatever the training loss, no augmentation."""
    device = split.images.device
    loss = torch.zeros((), device=device)
    predictions = []
    batch_size = _BATCH.get(device.type, _BATCH_OTHERWISE)
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast(config, device):
        for images, labels in epoch_batches(split, batch_size=batch_size, mean=dataset.mean, std=dataset.std):
            logits = model(images)  # [B, classes]
            loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            predictions.append(logits.argmax(1))
    model.train(training)
    predicted = torch.cat(predictions)
    correct = (predicted == split.labels).sum()
    # the only reads, at the end: each one waits for the device
    return Evaluation(loss.item() / len(split), correct.item() / len(split), predicted)
