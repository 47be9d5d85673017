"""The chosen metrics: as scikit-learn computes them, over any batches, and what is refused or left out."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn
from sklearn.preprocessing import label_binarize
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lab import registry
from lab.config import TrialConfig, bounds, rises
from lab.errors import ConfigError, LabError, LabWarning
from lab.objective.result import result_of
from lab.training import build_metrics
from lab.training.metrics import require_torchmetrics
from tests.trainers import new_trainer

require_torchmetrics()
from torchmetrics import Metric  # noqa: E402  # needs the torchvision that lab makes usable

CPU = torch.device("cpu")
CLASSES = 5
TINY: dict[str, Any] = {
    **{"dataset": "synthetic", "image_size": 8, "depth": 1, "width": 4, "batch_size": 256},
    **{"epochs": 2, "patience": None, "lr": 0.01, "threads": 1},
}


def computed(logits: Tensor, labels: Tensor, sizes: list[int], *names: str) -> dict[str, float]:
    config = TrialConfig(metrics=names or tuple(registry.metrics), top_k=2)
    metrics = build_metrics(config, logits.shape[1], CPU)
    assert metrics is not None
    with torch.inference_mode():
        for batch, truth in zip(logits.split(sizes), labels.split(sizes), strict=True):
            metrics.add(batch, truth)
        return metrics.values()


def random_case(seed: int, images: int) -> tuple[Tensor, Tensor]:
    """Return random logits that are right more often than not, and labels among which every class occurs."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat(
        [torch.arange(CLASSES), torch.randint(0, CLASSES, (images - CLASSES,), generator=generator)]
    )
    logits = torch.randn(images, CLASSES, generator=generator) * 2
    return logits + 2 * torch.nn.functional.one_hot(labels, CLASSES), labels


def calibration_error(probabilities: NDArray[Any], labels: NDArray[Any], bins: int = 15) -> float:
    """Return the error as Guo et al. define it: the bins' gaps between accuracy and confidence, weighted by size."""
    confidences, right = probabilities.max(1), probabilities.argmax(1) == labels
    of = np.minimum((confidences * bins).astype(int), bins - 1)
    gaps = [
        abs(right[of == one].mean() - confidences[of == one].mean()) * (of == one).mean() for one in set(of)
    ]
    return float(sum(gaps))


def as_scikit_learn(logits: Tensor, labels: Tensor) -> dict[str, float]:
    probabilities, truth = logits.softmax(1).numpy(), labels.numpy()
    predicted, every = probabilities.argmax(1), list(range(CLASSES))
    matrices = sklearn.multilabel_confusion_matrix(truth, predicted, labels=every)
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    return {
        "auroc": sklearn.roc_auc_score(truth, probabilities, multi_class="ovr", labels=every),
        "average_precision": sklearn.average_precision_score(
            label_binarize(truth, classes=every), probabilities
        ),
        "balanced_accuracy": sklearn.balanced_accuracy_score(truth, predicted),
        "cohen_kappa": sklearn.cohen_kappa_score(truth, predicted),
        "ece": calibration_error(probabilities, truth),
        "f1": sklearn.f1_score(truth, predicted, **macro),
        "jaccard": sklearn.jaccard_score(truth, predicted, **macro),
        "matthews": sklearn.matthews_corrcoef(truth, predicted),
        "precision": sklearn.precision_score(truth, predicted, **macro),
        "quadratic_kappa": sklearn.cohen_kappa_score(truth, predicted, weights="quadratic", labels=every),
        "recall": sklearn.recall_score(truth, predicted, **macro),
        "specificity": float(np.mean([m[0, 0] / m[0].sum() for m in matrices])),
        "top_k_accuracy": sklearn.top_k_accuracy_score(truth, probabilities, k=2, labels=every),
    }


@given(seed=st.integers(0, 1000), images=st.integers(CLASSES, 300), first=st.integers(1, 5))
def test_over_uneven_batches_they_are_those_of_scikit_learn(seed: int, images: int, first: int) -> None:
    logits, labels = random_case(seed, images)
    sizes = [first, *[7] * ((images - first) // 7), *([rest] if (rest := (images - first) % 7) else [])]
    assert computed(logits, labels, sizes) == pytest.approx(as_scikit_learn(logits, labels), abs=1e-5)


def test_large_splits_are_given_to_the_metrics_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = random_case(0, 100)
    whole = computed(logits, labels, [10] * 10)
    monkeypatch.setattr("lab.training.metrics._MOST_KEPT", 150)
    assert computed(logits, labels, [10] * 10) == pytest.approx(whole, abs=1e-6)


def test_autocast_does_not_reach_them() -> None:
    logits, labels = random_case(0, 100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = computed(logits, labels, [10] * 10)
    assert found == computed(logits, labels, [10] * 10)


class NoReads(TorchDispatchMode):
    """Refuses what makes the host wait for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_batch_waits_for_the_device() -> None:
    metrics = build_metrics(TrialConfig(metrics=tuple(registry.metrics), top_k=2), CLASSES, CPU)
    assert metrics is not None
    logits, labels = random_case(0, 100)
    with NoReads():
        for batch, truth in zip(logits.split(10), labels.split(10), strict=True):
            metrics.add(batch, truth)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            metrics.values()


def test_a_split_begins_anew() -> None:
    logits, labels = random_case(0, 60)
    metrics = build_metrics(TrialConfig(metrics=("f1", "auroc")), CLASSES, CPU)
    assert metrics is not None
    found = []
    for _ in range(2):
        metrics.add(logits, labels)
        found.append(metrics.values())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["auroc", "average_precision", "balanced_accuracy", "f1"])
def test_a_class_without_images_does_not_count(name: str) -> None:
    logits, labels = random_case(1, 80)
    logits, labels = logits[labels != 2], labels[labels != 2]
    logits[:, 2] = -20
    others = [0, 1, 3, 4]
    known = torch.tensor([0, 1, -1, 2, 3])[labels]
    found = computed(logits, labels, [len(labels)], name)
    assert found == pytest.approx(computed(logits[:, others], known, [len(known)], name), abs=1e-5)


@pytest.mark.parametrize("name", ["auroc", "cohen_kappa"])
def test_what_is_not_finite_is_left_out_and_said_once(name: str) -> None:
    metrics = build_metrics(TrialConfig(metrics=(name, "f1")), CLASSES, CPU)
    assert metrics is not None
    logits, labels = torch.zeros(9, CLASSES), torch.zeros(9, dtype=torch.int64)
    metrics.add(logits, labels)
    with pytest.warns(LabWarning, match=f"The metric {name} is nan for these images, so it is not logged"):
        assert set(metrics.values()) == {"f1"}
    metrics.add(logits, labels)
    assert set(metrics.values()) == {"f1"}  # a second warning would be an error


def test_top_k_needs_more_classes() -> None:
    with pytest.raises(
        ConfigError, match=r"metrics: top_k_accuracy needs top_k below the 5 classes, but top_k is 5"
    ):
        build_metrics(TrialConfig(metrics=("top_k_accuracy",)), 5, CPU)


class Weighted(Metric):
    """The share of the images of the first class among those predicted right."""

    higher_is_better = True

    def __init__(self, *, top_k: int = 0) -> None:
        super().__init__()
        self.top_k = top_k
        self.add_state("right", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("first", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        right = probabilities.argmax(1) == labels
        self.right += right.sum()
        self.first += (right & (labels == 0)).sum()

    def compute(self) -> Tensor:
        return self.first / self.right


class PerClass(Weighted):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def compute(self) -> Any:
        return torch.zeros(self.num_classes)


class Failing(Weighted):
    def compute(self) -> Any:
        raise KeyError("weights")


class Several(Weighted):
    def compute(self) -> Any:
        return {"a": 1.0}


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> registry.Registry:
    monkeypatch.setattr(registry.metrics, "_entries", dict(registry.metrics._entries))
    return registry.metrics


def test_an_own_metric_is_one_like_all_others(own: registry.Registry) -> None:
    own.register("weighted", Weighted, ["top_k"])
    own.register("error", lambda num_classes: Weighted(), higher_is_better=False, bounds=(0.0, 2.0))
    trained = new_trainer(**TINY, metrics=("Weighted", "error"), monitor="val_error", top_k=3)
    assert (trained.config.mode, rises("test_weighted"), bounds("val_error")) == ("min", True, (0.0, 2.0))
    for epoch in trained.epochs():
        assert epoch.metrics["val_weighted"] == epoch.metrics["val_error"]
    assert trained.patience.best_value == min(epoch["val_error"] for epoch in trained.history)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (PerClass, r"'mine' must give a single number, .* but it gives a tensor of shape \[10\]"),
        (Failing, "metrics: 'mine' fails: KeyError: 'weights'"),
        (lambda num_classes: Weighted(top=3), "metrics: 'mine' fails: TypeError: .*'top'"),
        (Several, r"'mine' must give a single number, .* but it gives a dict"),
        (
            lambda: {},
            r"'mine' must be a torchmetrics.Metric or a function that returns one, but it gives a dict",
        ),
    ],
)
def test_what_fails_or_is_not_one_number_is_refused_before_training(
    own: registry.Registry, target: Any, message: str
) -> None:
    own.register("mine", target, higher_is_better=True)
    with pytest.raises(ConfigError, match=message):
        new_trainer(**TINY, metrics=("mine",))


def test_a_metric_without_value_is_no_divergence(own: registry.Registry) -> None:
    class Nothing(Weighted):
        def compute(self) -> Any:
            return torch.tensor(torch.nan)

    own.register("nothing", Nothing)
    trained = new_trainer(**TINY, metrics=("nothing",), monitor="val_nothing", scheduler="plateau")
    with pytest.warns(LabWarning, match="The metric nothing is nan"):
        epochs = list(trained.epochs())
    assert len(epochs) == 2
    assert trained.diverged_step is None
    assert not any("val_nothing" in epoch.metrics or epoch.improved for epoch in epochs)
    assert trained.patience.best_value is None
    assert result_of(trained, "run").value == -math.inf


def test_without_metrics_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.training.metrics.require_torchmetrics", lambda: pytest.fail("not asked for"))
    assert build_metrics(TrialConfig(), 10, CPU) is None


def test_without_torchmetrics_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(
        LabError, match=r"The setting `metrics` needs torchmetrics, which is not installed here: "
    ):
        build_metrics(TrialConfig(metrics=("f1",)), 10, CPU)


def test_every_metric_says_its_direction_and_bounds() -> None:
    for name in registry.metrics:
        assert rises(f"val_{name}") is (name != "ece")
        assert math.isfinite(sum(bounds(f"test_{name}")))
