"""A model's errors: its confusion matrix, scores per class, and the pairs of classes it confuses most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lab.training.evaluate import DetailedEvaluation

__all__ = ["ClassScores", "ConfusedPair", "ErrorAnalysis", "Example", "analyse"]


@dataclass(frozen=True)
class ClassScores:
    """How well the model recognises one class.

    `accuracy` is the share of its images that were recognised (recall), NaN if there are none; `precision` and `f1`
    are 0 if the model never predicted the class, or there are no images of it.
    """

    name: str
    images: int
    errors: int
    accuracy: float
    precision: float
    f1: float


@dataclass(frozen=True)
class Example:
    """A misclassified image: its index in the split, and the model's probability for its wrong prediction."""

    index: int
    confidence: float


@dataclass(frozen=True)
class ConfusedPair:
    """Images of the class `true` that were classified as `predicted`; both are labels.

    `share` is relative to all images of the true class; `examples` are the most confident mistakes, most confident
    first.
    """

    true: int
    predicted: int
    count: int
    share: float
    examples: tuple[Example, ...]


@dataclass(frozen=True, eq=False)
class ErrorAnalysis:
    """A model's errors on a split.

    Attributes:
        confusion: number of images for each pair, int64 [C, C], true by predicted.
        per_class: name and scores of each of the C classes, by label.
        macro_f1: mean F1 over the classes that occur in the labels or the predictions.
        top_k: see `DetailedEvaluation`.
        top_k_accuracy: see `DetailedEvaluation`.
        labels: of the split's images, int64 [N].
        predictions: for the split's images, int64 [N].
        confidences: of the predictions, float32 [N].
        probabilities: see `DetailedEvaluation`, float32 [N, k].
        likeliest: see `DetailedEvaluation`, int64 [N, k].
        chosen: see `Evaluation.metrics`.
    """

    confusion: NDArray[np.int64]
    per_class: tuple[ClassScores, ...]
    macro_f1: float
    top_k: int
    top_k_accuracy: float | None
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidences: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    likeliest: NDArray[np.int64] | None = None
    chosen: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return self.correct / max(int(self.confusion.sum()), 1)

    @property
    def correct(self) -> int:
        """Number of correct predictions."""
        return int(np.trace(self.confusion))

    def metrics(self) -> dict[str, float]:
        """Return the metrics that a run logs, by name."""
        known = [scores.accuracy for scores in self.per_class if scores.images]
        metrics = {"test_macro_f1": self.macro_f1, "test_worst_class_accuracy": min(known)}
        if self.top_k_accuracy is not None:
            metrics[f"test_top{self.top_k}_accuracy"] = self.top_k_accuracy
        return metrics | {f"test_{name}": value for name, value in self.chosen.items()}

    def most_confused(self, top: int = 8, examples: int = 5) -> tuple[ConfusedPair, ...]:
        """Return the pairs of classes that are confused most often, most frequent first.

        Args:
            top: maximum number of pairs.
            examples: maximum number of images per pair.
        """
        mistakes = np.where(np.eye(len(self.per_class), dtype=bool), 0, self.confusion)  # [C, C]
        # stable: ties keep the order of the classes
        often = np.argsort(-mistakes, axis=None, kind="stable")[:top]
        pairs = zip(*np.unravel_index(often, mistakes.shape), strict=True)
        return tuple(
            self._pair(int(true), int(predicted), examples)
            for true, predicted in pairs
            if mistakes[true, predicted]
        )

    def _pair(self, true: int, predicted: int, examples: int) -> ConfusedPair:
        (found,) = np.nonzero((self.labels == true) & (self.predictions == predicted))
        surest = found[np.argsort(-self.confidences[found], kind="stable")][:examples]
        shown = tuple(Example(int(index), float(self.confidences[index])) for index in surest)
        return ConfusedPair(true, predicted, len(found), len(found) / self.per_class[true].images, shown)


def analyse(labels: Tensor, evaluation: DetailedEvaluation, classes: Sequence[str]) -> ErrorAnalysis:
    """Return the errors in `evaluation`.

    Args:
        labels: of the evaluated images, in the same order, int64 [N].
        evaluation: of those images.
        classes: class names, indexed by label.

    Raises:
        ValueError: labels and predictions differ in number, or there are none.
    """
    if labels.shape != evaluation.predictions.shape or not len(labels):
        raise ValueError(
            f"labels and predictions must belong to the same images, at least one, but got "
            f"{len(labels)} and {len(evaluation.predictions)}"
        )
    true, predicted = labels.cpu().numpy(), evaluation.predictions.cpu().numpy()
    confusion = _confusion(true, predicted, len(classes))
    per_class = _score(confusion, classes)
    occurring = np.union1d(true, predicted)
    return ErrorAnalysis(
        confusion=confusion,
        per_class=per_class,
        macro_f1=float(np.mean([per_class[label].f1 for label in occurring])),
        top_k=evaluation.top_k,
        top_k_accuracy=evaluation.top_k_accuracy,
        labels=true,
        predictions=predicted,
        confidences=evaluation.confidences.cpu().numpy(),
        probabilities=evaluation.probabilities.cpu().numpy(),
        likeliest=None if evaluation.likeliest is None else evaluation.likeliest.cpu().numpy(),
        chosen=evaluation.metrics,
    )


def _confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    pairs = np.bincount(true * classes + predicted, minlength=classes**2)
    return pairs.astype(np.int64).reshape(classes, classes)


def _score(confusion: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassScores, ...]:
    right, images, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)  # [C]
    recall, precision = _shares(right, images), _shares(right, predicted)
    f1 = _shares(2 * right, images + predicted)
    return tuple(
        ClassScores(
            name=name,
            images=int(images[label]),
            errors=int(images[label] - right[label]),
            accuracy=float(recall[label]) if images[label] else float("nan"),
            precision=float(precision[label]),
            f1=float(f1[label]),
        )
        for label, name in enumerate(classes)
    )


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return part / whole, and 0 of nothing, as scikit-learn does, whose metrics take 60 MiB and half a second."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
