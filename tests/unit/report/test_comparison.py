"""Tests of comparisons of made-up runs, of which it is known whether one side is better."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from lab.errors import StudyError
from lab.report import Comparison, Side, compare, render_comparison, verdict
from lab.tracking import MemoryTracker, RunStatus
from lab.tracking.predictions import log_predictions

NOISE = (0.0, 0.012, -0.009, 0.004, -0.006)


class Runs:
    """Runs of two sides in one tracker."""

    def __init__(self) -> None:
        self.tracker = MemoryTracker()

    def add(
        self,
        side: str,
        params: Mapping[str, object],
        value: float,
        *,
        outcome: str = "completed",
        **metrics: float,
    ) -> str:
        experiment = self.tracker.experiment(side)
        run = self.tracker.open_run(name="r", experiment=experiment, tags={"lab.outcome": outcome})
        known = {"dataset": "digits", "split_seed": 0, "optimizer": "adam", "seed": 0, **params}
        run.log_params({name: str(value) for name, value in known.items()})
        run.log_metrics({"best_value": value, **metrics})
        run.end(RunStatus.FINISHED)
        return run.run_id

    def predict(self, run_id: str, predicted: list[int], labels: list[int] | None = None) -> None:
        frame = pd.DataFrame({"label": labels or [1] * len(predicted), "predicted": predicted})
        log_predictions(self.tracker.attach(run_id), frame.assign(index=frame.index))

    def side(self, name: str, *, monitor: str = "val_accuracy", maximize: bool = True) -> Side:
        return Side(name, self.tracker.runs(self.tracker.experiment(name)), monitor, maximize)

    def compared(self, metric: str = "best_value") -> Comparison:
        return compare(self.tracker, self.side("a"), self.side("b"), metric)


@pytest.fixture
def runs() -> Runs:
    return Runs()


def study(runs: Runs, name: str, mean: float, first_seed: int = 0, **params: object) -> None:
    """Add a study of four cells with three seeds each."""
    for cell, lr in enumerate((0.1, 0.2, 0.3, 0.4)):
        for seed in range(3):
            noise = NOISE[(cell + first_seed + 2 * seed) % 5] * (1 - mean)
            runs.add(name, {"lr": lr, "seed": first_seed + seed, **params}, mean + cell / 50 + noise)


def said(found: Comparison) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(render_comparison(found))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_cells_that_lack_repeats_are_left_out_if_they_are_few(runs: Runs) -> None:
    for name, mean in (("a", 0.7), ("b", 0.8)):
        study(runs, name, mean)
        runs.add(name, {"lr": 0.5}, 0.1)
    found = runs.compared()
    assert (found.of, found.shared, found.compared, len(found.whole.a)) == ("repeats", 5, 4, 3)
    title = "Means over 4 of the 5 cells that both have, compared by repeats; the others lack repeats"
    assert title in " ".join(said(found).split())


def test_the_same_study_with_other_seeds_cannot_be_told_apart(runs: Runs) -> None:
    study(runs, "a", 0.8)
    study(runs, "b", 0.8, first_seed=7)
    found = runs.compared()
    assert (found.winner, found.of, found.shared, len(found.cells)) == (None, "repeats", 4, 4)
    assert found.whole.test == "Welch's t-test"
    assert verdict(found).startswith(
        "a and b cannot be told apart: val_accuracy of the first minus that of the second is "
    )
    assert found.settings == {"seed": ("0, 1, 2", "7, 8, 9")}


def test_a_real_difference_is_found_by_pairs_of_seeds(runs: Runs) -> None:
    study(runs, "a", 0.7, norm="none")
    study(runs, "b", 0.8, norm="batch")
    found = runs.compared()
    assert (found.winner, found.whole.pairs, found.whole.test) == ("b", "seed", "paired t-test")
    assert found.whole.value == pytest.approx(-0.1, abs=1e-3)
    assert found.settings == {"norm": ("none", "batch")}
    assert verdict(found).startswith("b is better than a: its val_accuracy is 10.")
    assert "norm" in said(found)
    assert [each.cell for each in found.cells] == [{"lr": lr} for lr in ("0.1", "0.2", "0.3", "0.4")]


def test_folds_are_pairs_whatever_their_seeds(runs: Runs) -> None:
    """Folds repeated under other seeds are of the same images: that is no further evidence."""
    for name, mean, seeds in (("a", 0.85, (0, 1)), ("b", 0.84, (7, 8, 9))):
        for fold in range(5):
            for seed in seeds:
                noise = NOISE[fold] + (seed % 2 - 0.5) / 1000 + NOISE[(fold + len(seeds)) % 5] / 10
                runs.add(name, {"folds": 5, "fold": fold, "seed": seed}, mean + noise)
    found = runs.compared().whole
    assert (found.pairs, found.test, len(found.a)) == ("fold", "corrected t-test", 5)
    assert found.is_clear
    assert "corrected t-test over 5 folds" in verdict(runs.compared())


def test_lower_losses_are_better(runs: Runs) -> None:
    for seed in range(3):
        for side, loss in {"a": 0.5, "b": 0.4}.items():
            runs.add(side, {"seed": seed}, loss + NOISE[seed] / (1 + (side == "a")))
    found = compare(
        runs.tracker,
        *(runs.side(name, monitor="val_loss", maximize=False) for name in ("a", "b")),
    )
    assert found.winner == "b"
    assert "its val_loss is 0.0995 lower (95 % interval +0.0" in verdict(found)


def test_without_repeats_cells_are_compared_by_pairs(runs: Runs) -> None:
    for lr in range(8):
        for side, value in {"a": 0.81, "b": 0.8}.items():
            runs.add(side, {"lr": lr}, value + lr / 100 + NOISE[lr % 5] / (10 if side == "a" else 9))
    found = runs.compared()
    assert (found.of, found.whole.pairs, found.winner) == ("cells", "cell", "a")
    assert "its val_accuracy is typically 1.00 points higher" in verdict(found)
    assert "Wilcoxon's signed-rank test over 8 cells" in verdict(found)


def test_cells_of_which_a_repeat_is_missing_do_not_count_for_the_others(runs: Runs) -> None:
    study(runs, "a", 0.8)
    study(runs, "b", 0.8)
    for side in "ab":
        for seed in range(2 if side == "a" else 3):
            runs.add(side, {"lr": 0.5, "seed": seed}, 0.2)
    found = runs.compared()
    assert found.whole.value == pytest.approx(0)
    assert (found.shared, found.whole.pairs) == (5, "seed")


def test_without_a_cell_in_common_the_best_of_each_is_compared(runs: Runs) -> None:
    for seed in range(3):
        runs.add("a", {"lr": 0.1, "seed": seed}, 0.5 + NOISE[seed])
        runs.add("a", {"lr": 0.2, "seed": seed}, 0.8 + NOISE[seed])
        runs.add("b", {"lr": 0.3, "seed": seed}, 0.9 + NOISE[-seed - 1])
        runs.add("b", {"lr": 0.4, "seed": seed}, 0.6 + NOISE[seed])
    found = runs.compared()
    assert (found.of, found.cells, found.winner) == ("best", (), "b")
    assert found.whole.value == pytest.approx(-0.1, abs=0.01)
    said = ": the best of 2 cells of the first, and the best of 2 cells of the second."
    assert verdict(found).endswith(said)


def test_an_accuracy_in_percent_is_no_share(runs: Runs) -> None:
    for seed in range(3):
        runs.add("a", {"seed": seed}, 93.1 + NOISE[seed])
        runs.add("b", {"seed": seed}, 90.1 + NOISE[-seed - 1])
    found = runs.compared()
    assert 2.9 < found.whole.low < 3.0 < found.whole.high < 3.1
    assert verdict(found).startswith("a is better than b: its val_accuracy is 3 higher (95 % interval +2.9")


def test_the_best_cell_is_chosen_by_what_is_monitored_whatever_is_compared(runs: Runs) -> None:
    for seed in range(3):
        for lr, value, test in ((0.1, 0.9, 0.6), (0.2, 0.8, 0.7)):
            runs.add("a", {"lr": lr, "seed": seed}, value + NOISE[seed], test_accuracy=test + NOISE[seed])
        runs.add("b", {"lr": 0.3, "seed": seed}, 0.5 + NOISE[-seed - 1], test_accuracy=0.6 + NOISE[-seed - 1])
    tested = runs.compared("test_accuracy")
    assert (tested.chosen_from, tested.whole.a) == ((2, 1), pytest.approx([0.6, 0.612, 0.591]))
    assert verdict(tested).endswith("the best of 2 cells of the first, and the only cell of the second.")
    assert "That favours the one with more cells: p does not allow for the choice" in verdict(runs.compared())


def test_a_setting_that_follows_from_others_does_not_keep_cells_apart(runs: Runs) -> None:
    for width, side in ((16, "a"), (4, "b")):
        for depth in (2, 3, 4):
            runs.add(side, {"width": width, "depth": depth, "filters": [width] * depth}, 0.5 + width / 100)
    found = runs.compared()
    assert (found.of, found.shared) == ("cells", 3)
    assert [each.cell for each in found.cells] == [{"depth": depth} for depth in ("2", "3", "4")]


@pytest.mark.parametrize("repeats", [1, 2])
def test_too_few_repeats_are_told_by_their_values(runs: Runs, repeats: int) -> None:
    for seed in range(repeats):
        runs.add("a", {"seed": seed}, 0.9 + seed / 100)
        runs.add("b", {"seed": seed}, 0.1 + seed / 100)
    found = runs.compared()
    assert found.winner is None
    expected = {
        1: "one run each does not tell how much val_accuracy changes with the seed (90.00% and 10.00%)",
        2: "val_accuracy was measured with n=2 (90.00%, 91.00%) and n=2 (10.00%, 11.00%), and a test needs 3 repeats",
    }
    assert expected[repeats] in verdict(found)
    assert "%" not in said(found).partition("95 % interval")[2].splitlines()[2].split("points")[-1]


def test_two_runs_are_compared_by_their_predictions(runs: Runs) -> None:
    a, b = runs.add("a", {}, 0.9), runs.add("b", {"seed": 1}, 0.95)
    runs.predict(a, [1] * 10 + [0] * 90)
    runs.predict(b, [1] * 40 + [0] * 60)
    found = runs.compared()
    assert found.models is not None
    assert (found.models.only_a, found.models.only_b, found.winner, found.is_single) == (0, 30, "b", True)
    assert verdict(found).startswith(
        "b is better than a: the two models, of one seed each, recognise 10.00% ("
    )
    assert (
        "of 100 test images (0 only by the first, 30 only by the second; exact McNemar test, p < 0.0001)"
        in verdict(found)
    )


def test_predictions_for_other_images_are_refused(runs: Runs) -> None:
    a, b = runs.add("a", {}, 0.9), runs.add("b", {"seed": 1}, 0.95)
    runs.predict(a, [1, 1])
    runs.predict(b, [1, 1], labels=[1, 0])
    with pytest.raises(StudyError, match=f"the test images of run {a} are not those of run {b}"):
        runs.compared()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dataset": "mnist"}, "dataset: digits and mnist"),
        ({"split_seed": 1}, "split_seed: 0 and 1"),
        ({"test_fraction": 0.5}, "test_fraction: – and 0.5"),
        ({"val_fraction": 0.3}, "val_fraction: – and 0.3"),
    ],
)
def test_other_data_are_refused(runs: Runs, params: dict[str, object], message: str) -> None:
    runs.add("a", {}, 0.9)
    runs.add("b", params, 0.9)
    with pytest.raises(StudyError, match=f"a and b cannot be compared, because they differ in:\n  {message}"):
        runs.compared()


def test_other_pixels_under_the_same_name_are_refused(runs: Runs) -> None:
    for side, digest in {"a": "123", "b": "456"}.items():
        run = runs.tracker.attach(runs.add(side, {}, 0.9))
        shape: dict[str, Any] = {"source": "s", "shape": (1, 8, 8), "classes": ("0",), "images": {"test": 1}}
        run.log_dataset("digits", digest=digest, **shape)
    with pytest.raises(StudyError, match="the digest of their images"):
        runs.compared()


def test_another_monitored_metric_is_refused_but_can_be_compared_by_a_common_one(runs: Runs) -> None:
    for side in ("a", "b"):
        runs.add(side, {"seed": int(side == "b")}, 0.9, test_accuracy=0.8)
    a, b = runs.side("a"), runs.side("b", monitor="val_loss", maximize=False)
    expected = r"monitored metric: val_accuracy \(higher is better\) and val_loss \(lower is better\)"
    with pytest.raises(StudyError, match=expected):
        compare(runs.tracker, a, b)
    assert compare(runs.tracker, a, b, "test_accuracy").metric == "test_accuracy"


def test_the_same_runs_are_refused(runs: Runs) -> None:
    runs.add("a", {}, 0.9)
    with pytest.raises(StudyError, match="a and a have 1 run in common"):
        compare(runs.tracker, runs.side("a"), runs.side("a"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_without_a_finite_value_there_is_nothing_to_compare(runs: Runs, value: float) -> None:
    runs.add("a", {}, value)
    runs.add("b", {}, 0.9)
    with pytest.raises(
        StudyError, match="a has no finished trial yet: 1 trial, none of them with a finite value"
    ):
        runs.compared()
    with pytest.raises(
        StudyError,
        match=r"a has no finished trial with a metric 'best_valu' yet.*Did you mean 'best_value'\?",
    ):
        runs.compared("best_valu")


def test_what_diverged_is_left_out_and_counted(runs: Runs) -> None:
    study(runs, "a", 0.8)
    study(runs, "b", 0.8)
    runs.add("b", {"lr": 0.9}, 0.1, outcome="diverged")
    found = runs.compared()
    assert found.left_out == (0, 1)
    assert found.whole.value == pytest.approx(0)
