"""Evaluation: loss and accuracy always, confidences only on request."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lab.config import TrialConfig
from lab.data import Dataset, MemorySplit
from lab.training.evaluate import DetailedEvaluation, Evaluation, evaluate

CONFIG = TrialConfig(threads=1)
CLASSES = 7


class Lookup(nn.Module):
    """Returns given logits [N, C]: the first pixel of an image is its index."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images[:, 0, 0, 0].mul(255).round().long()]


def case(labels: Tensor, classes: int = CLASSES) -> tuple[MemorySplit, Dataset]:
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    split = MemorySplit(images, labels)
    names = tuple(f"class {label}" for label in range(classes))
    return split, Dataset("d", names, split, None, split, torch.zeros(1), torch.ones(1), "0" * 16, "here")


def evaluated(logits: Tensor, labels: Tensor, **options: Any) -> DetailedEvaluation:
    split, dataset = case(labels, logits.shape[1])
    result = evaluate(Lookup(logits), split, dataset, CONFIG, **options)
    assert isinstance(result, DetailedEvaluation)
    return result


def random_case(seed: int, images: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, CLASSES, generator=generator) * 3
    return logits, torch.randint(0, CLASSES, (images,), generator=generator)


@given(seed=st.integers(0, 1000), images=st.sampled_from([1, 127, 128, 129, 256]), k=st.integers(1, 6))
def test_details_over_batches_are_those_of_all_logits(seed: int, images: int, k: int) -> None:
    logits, labels = random_case(seed, images)
    found = evaluated(logits, labels, top_k=k)
    assert torch.equal(found.predictions, logits.argmax(1))
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert torch.allclose(found.confidences, logits.softmax(1).max(1).values)
    assert found.confidences.dtype == torch.float32
    assert torch.allclose(found.probabilities, logits.softmax(1))
    assert found.likeliest is None
    own = logits.gather(1, labels[:, None])  # [N, 1]
    assert found.top_k_accuracy == pytest.approx(((logits > own).sum(1) < k).double().mean().item())
    if k == 1:
        assert found.top_k_accuracy == pytest.approx(found.accuracy)


def test_of_many_classes_the_likeliest_are_kept() -> None:
    logits, labels = torch.randn(130, 21), torch.zeros(130, dtype=torch.int64)
    found = evaluated(logits, labels, top_k=2)
    expected = logits.softmax(1).topk(5)
    assert torch.allclose(found.probabilities, expected.values)
    assert found.likeliest is not None
    assert torch.equal(found.likeliest, expected.indices)


@pytest.mark.parametrize("k", [CLASSES, CLASSES + 1])
def test_there_is_no_top_k_accuracy_of_all_classes(k: int) -> None:
    found = evaluated(*random_case(0, 20), top_k=k)
    assert (found.top_k, found.top_k_accuracy) == (k, None)


def test_an_epoch_computes_no_details(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("not asked for")

    logits, labels = random_case(1, 200)
    split, dataset = case(labels)
    detailed = evaluate(Lookup(logits), split, dataset, CONFIG, top_k=2)
    for name in ("softmax", "topk"):
        monkeypatch.setattr(Tensor, name, refuse)
    plain = evaluate(Lookup(logits), split, dataset, CONFIG)
    assert type(plain) is Evaluation
    assert (plain.loss, plain.accuracy) == (detailed.loss, detailed.accuracy)
    assert torch.equal(plain.predictions, detailed.predictions)


def test_a_model_that_gives_nan_is_sure_of_nothing() -> None:
    logits, labels = random_case(2, 5)
    logits[3] = torch.nan
    confidences = evaluated(logits, labels, top_k=2).confidences
    assert (confidences == 0).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode(training: bool) -> None:
    logits, labels = random_case(3, 5)
    model = Lookup(logits).train(training)
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    evaluate(model, *case(labels), CONFIG)
    assert (modes, model.training) == ([False], training)
