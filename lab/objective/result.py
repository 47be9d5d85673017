"""The result of a trial, and its model in the form in which others load it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lab.config import TrialConfig, bounds
from lab.models import Summary, summarize_config
from lab.objective.analysis import analyse_test
from lab.training import ErrorAnalysis, Evaluation, Outcome, Trainer, evaluate

__all__ = ["TrialResult", "result_of"]


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    `best_value` is the monitored metric after `best_epoch` (counted from 1; both None if no epoch was finished),
    `history` has the metrics of each epoch, `test` is the evaluation of the best weights on the test split, and `model`
    has these weights (float32 [B, C, H, W] in 0..1 -> logits [B, classes]).
    """

    config: TrialConfig
    run_id: str
    outcome: Outcome
    best_value: float | None
    best_epoch: int | None
    history: tuple[Mapping[str, float], ...]
    test: Evaluation
    errors: ErrorAnalysis
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
        metrics = {
            "test_loss": self.test.loss,
            "test_accuracy": self.test.accuracy,
            "accuracy_per_million_params": self.test.accuracy / (self.summary.params / 1e6),
            **self.errors.metrics(),
            "epochs": float(len(self.history)),
            "seconds": self.seconds,
        }
        if self.best_value is not None and self.best_epoch is not None:
            metrics |= {"best_value": self.best_value, "best_epoch": float(self.best_epoch)}
        return metrics


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


def result_of(trainer: Trainer, run_id: str) -> TrialResult:
    """Evaluate the best weights of a finished trainer on the test split, and return the result."""
    config, dataset = trainer.config, trainer.dataset
    trainer.restore_best()
    test = evaluate(trainer.model, dataset.test, dataset, config, top_k=config.top_k, metrics=trainer.metrics)
    return TrialResult(
        config=config,
        run_id=run_id,
        outcome=trainer.outcome,
        best_value=trainer.patience.best_value,
        best_epoch=trainer.patience.best_epoch,
        history=tuple(trainer.history),
        test=test,
        errors=analyse_test(dataset, test),
        summary=summarize_config(config, dataset.shape, len(dataset.classes)),
        model=Normalized(trainer.model.eval(), dataset.mean, dataset.std),
    )
