"""Classification metrics of torchmetrics under lab's names.

Each is built for a number of classes, takes probabilities [N, classes] and labels [N], and gives one number. Importing
this module imports torchmetrics, and raises a `LabError` if it is not installed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lab.errors import ConfigError, Fault
from lab.training.metrics import require_torchmetrics

require_torchmetrics()

from torchmetrics import Metric, classification  # noqa: E402
from torchmetrics.functional.classification import binary_auroc, binary_average_precision  # noqa: E402
from torchmetrics.utilities import dim_zero_cat  # noqa: E402

__all__ = [
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "cohen_kappa",
    "ece",
    "f1",
    "jaccard",
    "matthews",
    "precision",
    "quadratic_kappa",
    "recall",
    "specificity",
    "top_k_accuracy",
]


def auroc(num_classes: int) -> Metric:
    """Return the area under the ROC curve of each class against all others, averaged over the classes."""
    return _OneVersusRest(num_classes, binary_auroc)


def average_precision(num_classes: int) -> Metric:
    """Return the average precision of each class against all others, averaged over the classes."""
    return _OneVersusRest(num_classes, binary_average_precision)


def balanced_accuracy(num_classes: int) -> Metric:
    """Return the accuracy of each class that has images, averaged over these classes."""
    return _BalancedAccuracy(num_classes, validate_args=False)


def cohen_kappa(num_classes: int) -> Metric:
    """Return the agreement with the labels beyond chance (Cohen 1960)."""
    return classification.MulticlassCohenKappa(num_classes, validate_args=False)


def quadratic_kappa(num_classes: int) -> Metric:
    """Return Cohen's kappa for ordered classes: an error counts by the square of its distance (Cohen 1968)."""
    return classification.MulticlassCohenKappa(num_classes, weights="quadratic", validate_args=False)


def ece(num_classes: int) -> Metric:
    """Return the expected calibration error over 15 equal bins of confidence (Guo et al. 2017, arXiv:1706.04599)."""
    return classification.MulticlassCalibrationError(num_classes, n_bins=15, norm="l1", validate_args=False)


def f1(num_classes: int) -> Metric:
    """Return the F1 score, averaged over the classes that occur in the labels or the predictions."""
    return classification.MulticlassF1Score(num_classes, average="macro", validate_args=False)


def jaccard(num_classes: int) -> Metric:
    """Return intersection over union, averaged over the classes that occur in the labels or the predictions."""
    return classification.MulticlassJaccardIndex(num_classes, average="macro", validate_args=False)


def matthews(num_classes: int) -> Metric:
    """Return the correlation of predictions and labels (Matthews 1975; Gorodkin 2004 for several classes)."""
    return classification.MulticlassMatthewsCorrCoef(num_classes, validate_args=False)


def precision(num_classes: int) -> Metric:
    """Return the precision, averaged over the classes that occur in the labels or the predictions."""
    return classification.MulticlassPrecision(num_classes, average="macro", validate_args=False)


def recall(num_classes: int) -> Metric:
    """Return the recall, averaged over the classes that occur in the labels or the predictions."""
    return classification.MulticlassRecall(num_classes, average="macro", validate_args=False)


def specificity(num_classes: int) -> Metric:
    """Return the specificity, averaged over the classes that occur in the labels or the predictions."""
    return classification.MulticlassSpecificity(num_classes, average="macro", validate_args=False)


def top_k_accuracy(num_classes: int, *, top_k: int) -> Metric:
    """Return the share of images whose class is among the `top_k` most likely.

    Raises:
        ConfigError: there are no more classes than that.
    """
    if top_k >= num_classes:
        message = f"top_k_accuracy needs top_k below the {num_classes} classes, but top_k is {top_k}"
        raise ConfigError(Fault(message, "metrics"))
    return classification.MulticlassAccuracy(num_classes, top_k, average="micro", validate_args=False)


class _OneVersusRest(Metric):
    """The mean of a binary score over the classes that have images, and of which not all images are.

    torchmetrics' own averages count a class without images as 0, which a small validation split may well have.
    """

    probabilities: list[Tensor]
    labels: list[Tensor]

    def __init__(self, num_classes: int, score: Callable[..., Tensor]) -> None:
        super().__init__()
        self._classes = num_classes
        self._score = score
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Keep probabilities [B, classes] and labels [B]."""
        self.probabilities.append(probabilities)
        self.labels.append(labels)

    def compute(self) -> Tensor:
        """Return the mean, NaN if there is no such class."""
        probabilities, labels = dim_zero_cat(self.probabilities), dim_zero_cat(self.labels)
        images = torch.bincount(labels, minlength=self._classes).tolist()
        scores = [
            self._score(probabilities[:, label], (labels == label).long(), validate_args=False)
            for label, count in enumerate(images)
            if 0 < count < len(labels)
        ]
        return torch.stack(scores).mean() if scores else torch.tensor(torch.nan)


class _BalancedAccuracy(classification.MulticlassConfusionMatrix):
    def compute(self) -> Tensor:
        """Return the mean of the diagonal's shares of their rows, over rows with images."""
        matrix = super().compute().float()  # [C, C], true by predicted
        images = matrix.sum(1)
        return (matrix.diagonal() / images)[images > 0].mean()
