"""The result of a trial, and its model in the form in which others load it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lab.config import TrialConfig, bounds
from lab.models import Summary, summarize_config
from lab.training import ErrorAnalysis, Evaluation, Outcome, Trainer, analyse, evaluate

__all__ = ["TrialResult", "result_of", "test_metrics"]


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    `best_value` is the monitored metric after `best_epoch` (counted from 1; both None if no epoch was finished),
    `history` has the metrics of each epoch, and `model` the best weights (float32 [B, C, H, W] in 0..1 -> logits
    [B, classes]). `test` is their evaluation on the test split, and `errors` their mistakes there; both are None for a
    pruned trial, which is not tested.
    """

    config: TrialConfig
    run_id: str
    outcome: Outcome
    best_value: float | None
    best_epoch: int | None
    history: tuple[Mapping[str, float], ...]
    test: Evaluation | None
    errors: ErrorAnalysis | None
    summary: Summary
    model: nn.Module

    @property
    def value(self) -> float:
        """The best value, or the worst possible if no epoch was finished."""
        if self.best_value is not None:
            return self.best_value
        return bounds(self.config.monitor)[0] if self.config.mode == "max" else math.inf

    @property
    def seconds(self) -> float:
        """Training and validation time of all epochs, in seconds."""
        return sum(metrics.get("epoch_seconds", 0.0) for metrics in self.history)

    def metrics(self) -> dict[str, float]:
        """Return the metrics that a finished run logs once."""
        metrics = {"epochs": float(len(self.history)), "seconds": self.seconds}
        if self.test is not None and self.errors is not None:
            metrics |= test_metrics(self.test, self.errors, self.summary)
        if self.best_value is not None and self.best_epoch is not None:
            metrics |= {"best_value": self.best_value, "best_epoch": float(self.best_epoch)}
        return metrics


def test_metrics(test: Evaluation, errors: ErrorAnalysis, summary: Summary) -> dict[str, float]:
    """Return the metrics of a model on the test split."""
    return {
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "accuracy_per_million_params": test.accuracy / (summary.params / 1e6),
        **errors.metrics(),
    }


class Normalized(nn.Module):
    """A trained model that takes images in 0..1, as `torchvision.transforms.ToTensor` gives them."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, C, H, W]."""
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits


def result_of(trainer: Trainer, run_id: str, *, pruned: bool = False) -> TrialResult:
    """Evaluate the best weights of a trainer on the test split unless the trial was pruned; return the result."""
    config, dataset = trainer.config, trainer.dataset
    trainer.restore_best()
    test = None
    if not pruned:
        test = evaluate(
            trainer.model, dataset.test, dataset, config, top_k=config.top_k, metrics=trainer.metrics
        )
    return TrialResult(
        config=config,
        run_id=run_id,
        outcome=Outcome.PRUNED if pruned else trainer.outcome,
        best_value=trainer.patience.best_value,
        best_epoch=trainer.patience.best_epoch,
        history=tuple(trainer.history),
        test=test,
        errors=None if test is None else analyse(dataset.test.labels, test, dataset.classes),
        summary=summarize_config(config, dataset.shape, len(dataset.classes)),
        model=Normalized(trainer.model.eval(), dataset.mean, dataset.std),
    )
