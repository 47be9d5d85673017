"""Each section of a report as plain values, of studies whose answers are known."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest

from lab.config import TrialConfig, parse_config, parse_values
from lab.report import report_of
from lab.report.sections.board import board
from lab.report.sections.commands import commands
from lab.report.sections.common import common
from lab.report.sections.cost import cost
from lab.report.sections.curves import curves
from lab.report.sections.failures import failures
from lab.report.sections.mattered import mattered
from lab.report.sections.mistakes import mistakes
from lab.report.sections.overview import overview
from lab.report.sections.parallel import parallel
from lab.report.sections.slices import slices
from lab.report.sections.source import Source, round_numbers, value_order
from lab.report.sections.tradeoffs import tradeoffs
from lab.tracking import RunStatus
from tests.memory_study import MemoryStudy, many_trials

VALUES = {("0.1", "relu"): 0.5, ("0.1", "gelu"): 0.6, ("0.01", "relu"): 0.8, ("0.01", "gelu"): 0.9}


def small(seeds: int = 3, noise: float = 0.0) -> MemoryStudy:
    """Two learning rates and two activations: the means of the cells are those of VALUES, seeds are 0.01 apart."""
    study = MemoryStudy(("lr", "activation", "seed"))
    for number, ((lr, activation), value) in enumerate(VALUES.items()):
        for seed in range(seeds):
            params = {"dataset": "digits", "lr": lr, "activation": activation, "seed": seed}
            shifted = value + 0.01 * (seed - (seeds - 1) / 2) + noise * (number == 3) * (seed == 1)
            facts = {"params": 1000.0 * (number + 1), "mult_adds": 5e4, "seconds": 2.0, "epochs": 4}
            tags = {"lab.device": "cpu"}
            study.trial(params, tags=tags, best_value=shifted, test_accuracy=shifted - 0.05, **facts)
    return study


@pytest.fixture(scope="module")
def source() -> Source:
    return small().source()


def test_the_verdict_compares_the_best_cell_with_the_second() -> None:
    found = overview(small(noise=0.001).source())
    assert found.verdict == (
        "lr=0.01 activation=gelu is the best of 4 cells: val_accuracy 90.03% (95 % interval 87.25% to 92.26%, n=3); "
        "it is better than the second, lr=0.01 activation=relu (paired t-test, p < 0.0001)."
    )
    assert found.facts["Trials"] == "12 in 4 cells (12 completed)"
    assert (found.facts["Data"], found.question, found.left_out) == ("digits", "", "")


@pytest.mark.parametrize(
    ("seeds", "said"), [(1, "with n=1 nobody can say"), (2, "(n=2: 89.50%, 90.50%); with n=2 nobody can say")]
)
def test_too_few_repeats_tell_nothing(seeds: int, said: str) -> None:
    assert said in overview(small(seeds).source()).verdict


def test_folds_are_not_taken_for_independent_repeats() -> None:
    study = MemoryStudy(("lr", "fold"))
    for lr, mean in (("0.1", 0.8), ("0.2", 0.81)):
        for fold, noise in enumerate((0.0, 0.01, -0.01, 0.004, -0.002)):
            value = mean + noise * (1.6 if lr == "0.2" else 1)
            study.trial({"lr": lr, "folds": 5, "fold": fold, "seed": 0}, best_value=value)
    assert "(corrected t-test, p = " in overview(study.source()).verdict


def test_what_diverged_is_neither_the_best_nor_the_second() -> None:
    study = MemoryStudy(("lr",))
    study.trial({"lr": 1}, "diverged", best_value=0.2)
    assert overview(study.source()).verdict == (
        "There is no best cell: every one with a finite val_accuracy diverged, of 1 trial (1 diverged)."
    )
    study.trial({"lr": 2}, best_value=0.1)
    assert overview(study.source()).verdict == (
        "The only cell with a result, lr=2, reaches val_accuracy 10.00%."
    )


def test_equal_cells_cannot_be_told_apart() -> None:
    study = MemoryStudy(("lr", "seed"))
    for lr, values in {"0.1": (0.8, 0.9, 0.7), "0.2": (0.9, 0.7, 0.81)}.items():
        for seed, value in enumerate(values):
            study.trial({"lr": lr, "seed": seed}, best_value=value, test_accuracy=value, params=1)
    assert (
        "it cannot be told apart from the second, lr=0.1 (paired t-test, p = 0.9"
        in overview(study.source()).verdict
    )


def test_the_board_has_what_a_reader_sorts_by(source: Source) -> None:
    found = board(source)
    assert [column.heading for column in found.columns] == [
        *(
            "Rank",
            "lr",
            "activation",
            "val_accuracy",
            "95 % interval, n=3",
            "test_accuracy",
            "Params",
            "Mult-adds",
        ),
        *("Time", "Outcome"),
    ]
    assert [entry.text for entry in found.rows[0].entries] == [
        *(
            "1",
            "0.01",
            "gelu",
            "90.00%",
            "87.23% to 92.22%",
            "85.00%",
            "4,000",
            "50,000",
            "2.0 s",
            "completed",
        )
    ]
    assert found.rows[0].entries[3].value == pytest.approx(0.9)
    assert found.rows[0].values == {"lr": "0.01", "activation": "gelu"}
    assert [(choice.name, choice.values) for choice in found.choices] == [
        ("lr", ("0.01", "0.1")),
        ("activation", ("gelu", "relu")),
    ]


def test_numbers_are_in_their_order_before_other_texts() -> None:
    texts = ["none", "0.1", "1e-3", "10", "0.2 to 0.3", "auto"]
    assert sorted(texts, key=value_order) == ["1e-3", "0.1", "0.2 to 0.3", "10", "auto", "none"]


def test_importance_is_told_from_ten_cells_on(source: Source) -> None:
    found = mattered(source)
    assert (found.verdict, found.found) == (
        "Too few cells to tell what mattered: 4 with a result, of at least 10 needed.",
        None,
    )
    enough = mattered(many_trials(cells=28, seeds=1).source())
    assert enough.found is not None
    assert {each.name for each in enough.found.dimensions} >= {"lr", "optimizer"}


def test_importance_of_many_cells_is_not_worked_out_at_the_end_of_a_sweep() -> None:
    found = mattered(many_trials(cells=60, seeds=1, epochs=1).source(), quick=True)
    assert (
        found.verdict == "Not worked out at the end of the sweep, because of 60 cells: `lab report s` does."
    )


def test_parallel_lines_go_through_the_values_of_each_cell(source: Source) -> None:
    found = parallel(source)
    assert [axis.name for axis in found.axes] == ["lr", "activation", "val_accuracy"]
    assert found.axes[0].ticks == ((0.0, "0.01"), (1.0, "0.1"))
    assert [text for _, text in found.axes[2].ticks] == ["50%", "60%", "70%", "80%", "90%"]
    best = found.lines[0]
    assert (best.rank, best.name) == (1, "lr=0.01 activation=gelu")
    assert best.positions == pytest.approx((0.0, 0.0, 1.0))


def test_an_axis_of_a_log_range_has_powers_of_ten() -> None:
    assert round_numbers(0.0008, 0.3, log=True) == [0.001, 0.01, 0.1]
    assert round_numbers(2, 30, log=True) == [2, 5, 10, 20]
    assert round_numbers(3, 4, log=True) == [3, 4]


def test_an_axis_of_many_values_has_those_that_are_no_numbers() -> None:
    study = MemoryStudy(("freeze",))
    for value in ("none", *range(1, 16)):
        study.trial({"freeze": value}, best_value=0.5)
    found = parallel(study.source())
    assert sorted({line.positions[0] for line in found.lines}) == pytest.approx([at / 15 for at in range(16)])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.093, 0.961, [0.2, 0.4, 0.6, 0.8]),
        (2730, 4970, [3000, 3500, 4000, 4500]),
        (5.0, 5.0, [5.0]),
        (-3, 4, [-3, -2, -1, 0, 1, 2, 3, 4]),
    ],
)
def test_an_axis_has_round_numbers(low: float, high: float, expected: list[float]) -> None:
    found = round_numbers(low, high)
    assert found == pytest.approx(expected)


def test_slices_are_means_over_the_rest(source: Source) -> None:
    lr, activation = slices(source).slices
    assert (lr.name, lr.values, lr.counts) == ("lr", ("0.01", "0.1"), (6, 6))
    assert lr.means == pytest.approx((0.85, 0.55))
    assert all(low < mean < high for low, mean, high in zip(lr.lows, lr.means, lr.highs, strict=True))
    assert dict(zip(activation.values, activation.means, strict=True)) == pytest.approx(
        {"gelu": 0.75, "relu": 0.65}
    )


def test_heat_maps_are_means_of_pairs(source: Source) -> None:
    (found,) = slices(source).maps
    assert (found.down, found.across, found.rows, found.columns) == (
        "lr",
        "activation",
        ("0.01", "0.1"),
        ("gelu", "relu"),
    )
    assert [list(row) for row in found.means] == [pytest.approx([0.9, 0.8]), pytest.approx([0.6, 0.5])]
    assert found.counts == ((3, 3), (3, 3))


def test_a_pair_without_a_trial_has_no_mean() -> None:
    study = MemoryStudy(("lr", "activation"))
    for lr, activation in [("0.1", "relu"), ("0.1", "gelu"), ("0.2", "relu")]:
        study.trial({"lr": lr, "activation": activation}, best_value=0.5, test_accuracy=0.5, params=1)
    (found,) = slices(study.source()).maps
    assert math.isnan(found.means[1][0])
    assert found.counts == ((1, 1), (0, 1))


def test_slices_of_the_most_important_dimensions_come_first() -> None:
    study = MemoryStudy(tuple(f"d{number}" for number in range(14)))
    for number in range(6):
        study.trial(dict.fromkeys(study.varied, number), best_value=0.5, test_accuracy=0.5, params=1)
    found = slices(study.source(), order=["d13", "d2"])
    assert [each.name for each in found.slices][:3] == ["d13", "d2", "d0"]
    assert (len(found.slices), len(found.maps)) == (12, 10)
    assert found.left_out == (
        "Shown are the first 12 of 14 dimensions and 10 of 91 pairs of dimensions, the most important first. "
        "12 dimensions: not the same cells, so the means also depend on what else varies in them."
    )


def test_of_many_values_the_best_are_shown_and_the_rest_is_told() -> None:
    study = MemoryStudy(("lr", "net"))
    for number, net in itertools.product(range(1, 41), "ab"):
        study.trial(
            {"lr": number, "net": net}, best_value=0.9 if (number, net) == (39, "a") else 0.5 + number / 1000
        )
    found = slices(study.source())
    lr = next(each for each in found.slices if each.name == "lr")
    assert len(lr.values) == 30
    assert {"1", "39", "40"} <= {*lr.values}
    assert max(lr.means) == pytest.approx((0.9 + 0.539) / 2)
    assert found.maps[0].rows == lr.values
    assert found.left_out == "Of lr 30 of 40 values are shown, the best among them."


def test_curves_are_means_within_the_band_of_the_repeats() -> None:
    study = MemoryStudy(("lr", "seed"))
    for seed, steps in enumerate(([0.2, 0.4, 0.6], [0.4, 0.8])):  # the second stopped early
        run_id = study.trial({"lr": "0.1", "seed": seed}, best_value=steps[-1], test_accuracy=0.5, params=1)
        history = {step: {"val_accuracy": value} for step, value in enumerate(steps, 1)}
        study.tracker.attach(run_id).log_history(history)
    found = curves(study.source(), study.tracker)
    (panel,) = found.panels
    (curve,) = panel.curves
    assert (panel.metric, panel.step, curve.n, curve.steps) == ("val_accuracy", "epoch", 2, (1, 2))
    assert curve.means == pytest.approx((0.3, 0.6))
    assert (curve.lows, curve.highs) == ((0.2, 0.4), (0.4, 0.8))
    assert "as far as all repeats went" in found.note


@pytest.mark.parametrize(("outcome", "value"), [("failed", None), ("diverged", 0.1)])
def test_curves_are_of_the_repeats_that_the_leaderboard_averages(outcome: str, value: float | None) -> None:
    study = MemoryStudy(("lr", "seed"))
    for seed in (0, 1, 2):
        ended, best = (outcome, value) if seed == 2 else ("completed", 0.9)
        run_id = study.trial(
            {"lr": "0.1", "seed": seed}, ended, **({} if best is None else {"best_value": best})
        )
        history = (
            {1: {"val_accuracy": 0.1}} if seed == 2 else {step: {"val_accuracy": 0.9} for step in (1, 2, 3)}
        )
        study.tracker.attach(run_id).log_history(history)
    (panel,) = curves(study.source(), study.tracker).panels
    assert [(curve.n, curve.steps, curve.lows) for curve in panel.curves] == [(2, (1, 2, 3), (0.9, 0.9, 0.9))]


def test_a_cell_keeps_its_place_where_another_lacks_the_metric() -> None:
    study = MemoryStudy(("lr",))
    for lr, best, metrics in (("1", 0.9, ["val_loss"]), ("2", 0.8, ["val_accuracy", "val_loss"])):
        run_id = study.trial({"lr": lr}, best_value=best)
        study.tracker.attach(run_id).log_history({step: dict.fromkeys(metrics, 0.5) for step in (1, 2)})
    found = curves(study.source(), study.tracker)
    places = {panel.metric: [(curve.place, curve.name) for curve in panel.curves] for panel in found.panels}
    assert places == {"val_accuracy": [(1, "lr=2")], "val_loss": [(0, "lr=1"), (1, "lr=2")]}
    assert [curve.name for curve in found.cells] == ["lr=1", "lr=2"]


def test_curves_of_the_best_cells_only_with_few_points() -> None:
    study = many_trials(cells=10, seeds=1, epochs=450)
    found = curves(study.source(), study.tracker)
    assert [panel.metric for panel in found.panels] == ["val_accuracy", "train_loss", "val_loss"]
    assert [curve.rank for curve in found.panels[0].curves] == [1, 2, 3, 4, 5, 6]
    steps = found.panels[0].curves[0].steps
    assert (len(steps), steps[0], steps[-1]) == (200, 1, 450)
    assert found.note == "The best 6 of 10 cells. "


def test_tradeoffs_have_their_own_front(source: Source) -> None:
    (found,) = tradeoffs(source)  # all have the same mult-adds and seconds
    assert (found.cost, found.heading, found.accuracy) == ("params", "parameters", "test_accuracy")
    assert {point.name for point in found.points if point.on_front} == {
        f"lr={lr} activation={activation}" for lr, activation in VALUES
    }


def test_mistakes_are_those_of_the_best_run(source: Source) -> None:
    study = many_trials(cells=4)
    found = mistakes(study.source(), study.tracker)
    assert found is not None
    assert (found.classes, found.counts, found.images) == (("cat", "dog"), ((8, 2), (1, 9)), 20)
    assert [(pair.true, pair.predicted, pair.count) for pair in found.pairs] == [("cat", "dog", 2)]


def test_a_run_without_its_mistakes_has_none() -> None:
    study = small()
    assert mistakes(study.source(), study.tracker) is None


def test_failures_are_grouped_by_reason() -> None:
    study = MemoryStudy(("lr",))
    for lr, outcome, error in [
        ("1", "failed", "OutOfMemory: 12 GB"),
        ("2", "failed", "OutOfMemory: 12 GB"),
        ("3", "diverged", ""),
        ("4", "completed", ""),
    ]:
        tags = {"lab.error": error} if error else {}
        study.trial(
            {"lr": lr}, outcome, RunStatus.FAILED if error else RunStatus.FINISHED, tags, best_value=0.1
        )
    first, second = failures(study.source())
    assert (first.outcome, first.reason, first.names) == ("failed", "OutOfMemory: 12 GB", ("lr=1", "lr=2"))
    assert (second.outcome, second.names) == ("diverged", ("lr=3",))
    assert second.reason == "the loss was no longer finite, or exploded"


def test_time_is_added_up_by_device(source: Source) -> None:
    found = cost(source, small().tracker)
    assert (found.cpu_seconds, found.gpu_seconds, found.epochs) == (24.0, 0.0, 48)
    assert [(each.device, each.trials, each.each) for each in found.devices] == [("cpu", 12, 2.0)]
    assert found.kilowatt_hours is None


def test_energy_is_told_where_something_logged_it() -> None:
    study = MemoryStudy(("lr",))
    ids = [
        study.trial({"lr": lr}, tags={"lab.device": "H100"}, best_value=0.5, seconds=3600.0) for lr in "12"
    ]
    for hour, (run_id, watts) in enumerate(zip(ids, (300.0, 500.0), strict=True)):
        power = {step: {"system/gpu_0_power_usage_watts": watts + step} for step in (-10, 10)}
        run = study.tracker.attach(run_id)
        run.log_history(power)
        run.end(RunStatus.FINISHED, timestamp=3_600_000 * (hour + 1))
    found = cost(study.source(), study.tracker)
    assert found.gpu_seconds == 7200
    assert found.kilowatt_hours == pytest.approx(0.8)
    assert found.measured == "by NVML for all GPUs of the machines while a trial ran, of 2 of 2 trials"
    study.tracker.attach(ids[0]).log_metrics({"energy_consumed": 0.25})
    by_codecarbon = cost(study.source(), study.tracker)
    assert (by_codecarbon.kilowatt_hours, by_codecarbon.measured) == (0.25, "by codecarbon, of 1 of 2 trials")


def test_trials_at_once_do_not_take_the_energy_of_their_machine_each() -> None:
    """Every one of them logs the power of all GPUs: here 100 and 300 W, for an hour and a half."""
    study = MemoryStudy(("lr",))
    for end, host in ((3600, "a"), (3600, "a"), (5400, "a"), (5400, "b")):
        tags = {"lab.device": "H100", "lab.host": host}
        run = study.tracker.attach(study.trial({"lr": end}, tags=tags, best_value=0.5, seconds=3600.0))
        run.log_history({1: {f"system/gpu_{gpu}_power_usage_watts": 100 + 200.0 * gpu for gpu in (0, 1)}})
        run.end(RunStatus.FINISHED, timestamp=1000 * end)
    assert cost(study.source(), study.tracker).kilowatt_hours == pytest.approx(0.4 * 1.5 + 0.4)


def test_time_on_an_unknown_device_is_not_that_of_a_gpu() -> None:
    study = MemoryStudy(("lr",))
    study.trial({"lr": 1}, best_value=0.5, seconds=60.0)
    found = cost(study.source(), study.tracker)
    assert (found.cpu_seconds, found.gpu_seconds) == (0, 0)
    assert [(each.device, each.seconds) for each in found.devices] == [("unknown device", 60)]


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset": "digits", "lr": 0.01, "activation": "gelu", "depth": 3, "seed": 2},
        {"dataset": "synthetic", "width": 8, "optimizer": "sgd", "momentum": 0.9, "scheduler": "cosine"},
        {"dataset": "digits", "filters": (6, 16), "patience": None, "mode": "min", "monitor": "val_loss"},
    ],
)
def test_a_command_trains_the_same_trial(settings: dict[str, Any]) -> None:
    config = TrialConfig(**settings)
    study = MemoryStudy(("lr",))
    study.trial(config.as_params(), best_value=0.5, test_accuracy=0.5, params=1)
    (found,) = commands(study.source())
    lab, train, *flags = found.words
    assert (lab, train) == ("lab", "train")
    pairs = (flag.removeprefix("--").partition("=") for flag in flags)
    given = {name.replace("-", "_"): value for name, _, value in pairs}
    assert parse_config(parse_values(given)).cell_hash == config.cell_hash
    assert len(given) <= len(settings)


def test_a_command_is_quoted_and_tells_no_folders() -> None:
    study = MemoryStudy(("lr",))
    params = {"dataset": "image_folder", "data_dir": "/home/ann/my photos; rm -rf", "lr": "0.1"}
    study.trial(params, best_value=0.5, test_accuracy=0.5, params=1)
    (found,) = commands(study.source())
    assert "'--data-dir=path/to/my photos; rm -rf'" in found.words
    assert "ann" not in found.text


def test_runs_of_another_program_have_no_command() -> None:
    study = small()
    study.parent.set_tags({"lab.imported": "optuna.db#old"})
    source = study.source()
    assert commands(source) == ()
    assert overview(source).facts["Imported from"] == "optuna.db#old"


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("varied", [(), ("lr",), ("lr", "seed"), ("seed",)])
@pytest.mark.parametrize("value", [0.5, math.nan, None])
def test_every_study_has_a_report(count: int, varied: tuple[str, ...], value: float | None) -> None:
    study = MemoryStudy(varied)
    metrics = {} if value is None else {"best_value": value, "test_accuracy": value}
    for number in range(count):
        outcome = "failed" if value is None else "completed"
        study.trial(dict.fromkeys(varied, number), outcome, params=10, seconds=1, **metrics)
    (found,) = report_of([study.source()], study.tracker).studies
    said = found.overview.verdict
    if not count:
        assert said == "No trial has started yet."
    elif value != 0.5:
        assert said.startswith("Nothing can be said yet: ")
        assert said.endswith("with a finite val_accuracy.")
    else:
        assert "val_accuracy 50.00%" in said
    assert sum(len(failure.names) for failure in found.failures) == (count if value is None else 0)


def test_studies_by_one_metric_share_a_leaderboard(source: Source) -> None:
    other = MemoryStudy(("lr",))
    for lr in "12":
        other.trial({"dataset": "digits", "lr": lr}, best_value=0.7, test_accuracy=0.7, params=1, seconds=1)
    found = common([source, other.source(), MemoryStudy(("lr",)).source()])
    assert found.board is not None
    assert [row.rank for row in found.board.rows] == [1, 2, 3, 4, 5, 6]
    values = [row.entries[3].value for row in found.board.rows]
    assert values == sorted(values, key=lambda value: -float(str(value)))
    assert found.note == ""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"data_digest": "b"}, "data_digest: a in s and b in s"),
        (
            {"test_fraction": "0.5", "folds": "3"},
            "test_fraction: 0.2 in s and 0.5 in s; folds: – in s and 3 in s",
        ),
        ({"dataset": "digits"}, "dataset: image_folder in s and digits in s"),
    ],
)
def test_studies_of_other_images_do_not(other: dict[str, str], said: str) -> None:
    sources = []
    for change in ({}, other):
        study = MemoryStudy(("lr",))
        data = {"dataset": "image_folder", "data_digest": "a", "test_fraction": "0.2", **change}
        study.trial({"lr": "1", **data}, best_value=0.7, test_accuracy=0.7, params=1, seconds=1)
        sources.append(study.source())
    found = common(sources)
    assert found.board is None
    assert found.note == f"There is no common leaderboard: the studies are of different images ({said})."


def test_what_diverged_comes_last_in_the_common_leaderboard_too(source: Source) -> None:
    other = MemoryStudy(("lr",))
    for lr, value, outcome in (("1", 0.99, "diverged"), ("2", 0.1, "completed")):
        params = {"dataset": "digits", "lr": lr}
        other.trial(params, outcome, best_value=value, test_accuracy=value, params=1, seconds=1)
    board = common([source, other.source()]).board
    assert board is not None
    assert [row.name for row in board.rows[-2:]] == ["lr=2", "lr=1"]


def test_studies_by_different_metrics_do_not(source: Source) -> None:
    other = MemoryStudy(("lr",), direction="minimize")
    other.parent.set_tags({"lab.monitor": "val_loss"})
    found = common([source, other.source()])
    assert found.board is None
    assert found.note == (
        "There is no common leaderboard: the studies are ranked by different metrics "
        "(s by val_accuracy, s by val_loss)."
    )


def test_the_question_is_the_description_of_the_file() -> None:
    study = small()
    text = "description: |\n  Which one\n  is best?\nbase: {dataset: digits}\ngrid: {lr: [0.1, 0.01]}\n"
    study.parent.log_text(json.dumps({"text": text, "overrides": {}, "cells": []}), "planned.json")
    assert overview(study.source()).question == "Which one is best?"
