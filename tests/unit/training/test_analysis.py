"""Error analysis, checked against scikit-learn and by counting."""

from __future__ import annotations

import math
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support
from torch import Tensor

from lab.training.analysis import ErrorAnalysis, analyse
from lab.training.evaluate import DetailedEvaluation

CLASSES = 5
ANSWERS = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1), st.floats(0, 1, width=32)),
    min_size=1,
    max_size=80,
)  # true, predicted, confidence


def evaluation(
    predictions: list[int], confidences: list[float] | None = None, top_k_accuracy: float | None = 0.75
) -> DetailedEvaluation:
    sure = torch.tensor(confidences or [0.5] * len(predictions))
    probabilities = torch.zeros(len(predictions), CLASSES)
    return DetailedEvaluation(1.0, 0.5, torch.tensor(predictions), sure, 3, top_k_accuracy, probabilities)


def analysis(answers: list[tuple[int, int, float]]) -> ErrorAnalysis:
    true, predicted, confidences = (list(column) for column in zip(*answers, strict=True))
    return analyse(labels(true), evaluation(predicted, confidences), [f"c{n}" for n in range(CLASSES)])


def labels(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


@given(ANSWERS)
def test_the_numbers_are_those_of_scikit_learn(answers: list[tuple[int, int, float]]) -> None:
    found = analysis(answers)
    true, predicted, _ = zip(*answers, strict=True)
    expected = confusion_matrix(true, predicted, labels=range(CLASSES))
    assert found.confusion.tolist() == expected.tolist()
    assert found.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0))
    assert found.accuracy == pytest.approx(np.mean(np.equal(true, predicted)))
    with warnings.catch_warnings(action="ignore"):  # of classes without images
        table = precision_recall_fscore_support(true, predicted, labels=range(CLASSES), zero_division=0)
    scores = [(each.precision, each.accuracy, each.f1, each.images) for each in found.per_class]
    assert [tuple(0 if math.isnan(value) else value for value in row) for row in scores] == list(
        zip(*table, strict=True)
    )


@given(ANSWERS)
def test_each_class_is_counted_once(answers: list[tuple[int, int, float]]) -> None:
    found = analysis(answers)
    assert [scores.images for scores in found.per_class] == found.confusion.sum(axis=1).tolist()
    assert sum(scores.errors for scores in found.per_class) == sum(true != said for true, said, _ in answers)
    for scores in found.per_class:
        assert 0 <= scores.errors <= scores.images
        if scores.images:
            assert scores.accuracy == pytest.approx(1 - scores.errors / scores.images)
        else:
            assert math.isnan(scores.accuracy)
    known = [scores.accuracy for scores in found.per_class if scores.images]
    assert found.metrics()["test_worst_class_accuracy"] == min(known)


@given(ANSWERS, st.integers(1, 30), st.integers(1, 4))
def test_the_most_confused_pairs_come_first_and_the_surest_images(
    answers: list[tuple[int, int, float]], top: int, examples: int
) -> None:
    found = analysis(answers).most_confused(top, examples)
    counts = Counter((true, said) for true, said, _ in answers if true != said)
    assert len(found) == min(top, len(counts))
    assert [pair.count for pair in found] == sorted(counts.values(), reverse=True)[:top]
    for pair in found:
        assert pair.count == counts[pair.true, pair.predicted]
        assert pair.share == pytest.approx(pair.count / sum(true == pair.true for true, _, _ in answers))
        of_pair = [sure for true, said, sure in answers if (true, said) == (pair.true, pair.predicted)]
        assert [example.confidence for example in pair.examples] == sorted(of_pair, reverse=True)[:examples]
        for example in pair.examples:
            assert answers[example.index] == (pair.true, pair.predicted, example.confidence)


def test_pairs_confused_as_often_keep_the_order_of_the_classes() -> None:
    found = analysis([(2, 1, 0.5), (0, 3, 0.5), (0, 1, 0.5), (0, 1, 0.9)]).most_confused()
    assert [(pair.true, pair.predicted) for pair in found] == [(0, 1), (0, 3), (2, 1)]
    assert [example.index for example in found[0].examples] == [3, 2]
    assert found[0].share == pytest.approx(2 / 3)


def test_a_perfect_model_confuses_nothing() -> None:
    found = analysis([(0, 0, 0.9), (4, 4, 0.8)])
    assert found.most_confused() == ()
    assert found.metrics()["test_macro_f1"] == found.metrics()["test_worst_class_accuracy"] == 1.0


def test_a_class_without_images_counts_where_it_was_answered() -> None:
    found = analyse(labels([0, 0, 1]), evaluation([0, 2, 1]), ["a", "b", "c", "d"])
    scores = {each.name: each for each in found.per_class}
    assert (scores["a"].precision, scores["a"].accuracy) == (1.0, 0.5)
    assert (scores["c"].images, scores["c"].precision, scores["c"].f1) == (0, 0.0, 0.0)
    assert math.isnan(scores["d"].accuracy)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1.0 + 0.0) / 3)
    assert found.metrics()["test_worst_class_accuracy"] == 0.5


@pytest.mark.parametrize(("accuracy", "names"), [(0.75, {"test_top3_accuracy"}), (None, set())])
def test_top_k_accuracy_is_logged_where_it_says_something(accuracy: float | None, names: set[str]) -> None:
    found = analyse(labels([0, 1]), evaluation([0, 0], top_k_accuracy=accuracy), ["a", "b"]).metrics()
    assert set(found) == {"test_macro_f1", "test_worst_class_accuracy"} | names
    assert found.get("test_top3_accuracy") == accuracy


@pytest.mark.parametrize(("true", "predicted"), [([0, 1], [0]), ([], [])])
def test_labels_and_predictions_are_of_the_same_images(true: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"same images, .* got {len(true)} and {len(predicted)}"):
        analyse(labels(true), evaluation(predicted), ["a", "b"])
