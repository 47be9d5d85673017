"""Searches with real processes: exact totals, continued and raised, pruned, constrained, begun with known points."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState

from lab import registry
from lab.config import Grid, parse_grid
from lab.engines import Progress, Stores, sweep
from lab.errors import LabError, StudyError
from lab.objective import train
from lab.study import TrialQueue, open_storage, study_status
from lab.tracking import connect
from lab.tracking.tags import Tag
from lab.training import require_torchmetrics
from tests.workers import asleep, kill

require_torchmetrics()
from torchmetrics import Metric  # noqa: E402  # needs the torchvision that lab makes usable

BASE = "dataset: synthetic, image_size: 8, depth: 1, batch_size: 256"


def make(
    search: str = "",
    *,
    trials: int | None = 6,
    epochs: int = 1,
    space: str = "lr: {low: 0.001, high: 0.1, log: true}, width: {low: 2, high: 6}",
    budget: str = "",
    rest: str = "",
    patience: str = "none",
    more: str = "",
) -> Grid:
    search = search or "sampler: {name: tpe, seed: 1, n_startup_trials: 3}"
    limit = "" if trials is None else f"trials: {trials}"
    return parse_grid(
        f"name: s\nbase: {{{BASE}, epochs: {epochs}, patience: {patience}{', ' * bool(more)}{more}}}\n"
        f"search:\n  {search}\n  space: {{{space}}}\n"
        f"budget: {{{limit}{budget}}}\n{rest}\n",
        "s.yaml",
    )


def trials(stores: Stores) -> list[FrozenTrial]:
    return TrialQueue(open_storage(stores.storage), "s").trials()


def trained(stores: Stores) -> list[FrozenTrial]:
    return [trial for trial in trials(stores) if "lab:run_id" in trial.user_attrs]


def runs(stores: Stores) -> Any:
    tracker = connect(stores.tracking_uri)
    return tracker.runs(tracker.experiment("s"), tags={"lab.kind": "trial"})


@pytest.mark.slow
def test_totals_are_exact_and_a_raised_budget_adds_to_them(stores: Stores) -> None:
    result = sweep(make(trials=5), stores, workers=2)
    assert (result.ending, result.states) == ("done", {"complete": 5})
    first = {trial.number: trial.params for trial in trials(stores)}
    assert len(first) == len(runs(stores)) == 5
    assert len({params["lr"] for params in first.values()}) == 5
    assert sweep(make(trials=5), stores, workers=2).states == {"complete": 5}
    other = "sampler: qmc\n  pruner: {name: hyperband, min_resource: 1}"
    result = sweep(make(other, trials=8), stores, workers=2)
    assert result.states == {"complete": 8}
    assert len(runs(stores)) == 8
    assert {number: trial.params for number, trial in enumerate(trials(stores)) if number in first} == first
    assert {"lr", "width"} < set(result.leaderboard.columns)
    assert study_status(stores.storage, "s").states == {"complete": 8}
    study = optuna.load_study(study_name="s", storage=stores.storage)
    assert study.best_value == result.leaderboard["best_value"].max()


@pytest.mark.slow
def test_a_lowered_budget_takes_back_what_has_not_begun(stores: Stores) -> None:
    done: list[int] = []

    def note(progress: Progress) -> None:
        done.append(progress.done)

    # so many that a worker is never done with them before it hears of the stop
    sweep(make(trials=60), stores, workers=1, on_progress=note, should_stop=lambda: max(done, default=0) >= 2)
    begun = len(trained(stores))
    assert 2 <= begun < 60
    result = sweep(make(trials=begun), stores, workers=1)
    assert result.states == {"complete": begun}
    assert sweep(make(trials=begun + 3), stores, workers=2).states == {"complete": begun + 3}


def test_a_pruned_trial_keeps_its_curves_and_its_best_value(stores: Stores) -> None:
    search = (
        "sampler: {name: random, seed: 1}\n  pruner: {name: percentile, percentile: 0.0, n_startup_trials: 1}"
    )
    search += "\n  enqueue: [{lr: 0.05}, {lr: 0.0000001}]"
    grid = make(search, trials=2, epochs=5, space="lr: {low: 0.0000001, high: 0.1, log: true}")
    result = sweep(grid, stores, workers=1)
    assert (result.ending, result.states) == ("done", {"complete": 1, "pruned": 1})
    run = next(run for _, run in runs(stores).iterrows() if run["tags.lab.outcome"] == "pruned")
    assert run["status"] == "KILLED"
    tracker = connect(stores.tracking_uri)
    curve = tracker.history(run["run_id"], "val_accuracy")
    assert 1 <= len(curve) < 5
    assert run["metrics.best_value"] == max(curve.values())
    trial = next(trial for trial in trials(stores) if trial.state is TrialState.PRUNED)
    assert trial.values == [curve[max(curve)]]
    assert trial.intermediate_values == curve
    assert sweep(grid, stores, workers=1).states == {"complete": 1, "pruned": 1}


@pytest.mark.slow
def test_the_best_trials_pause_and_go_on_as_if_they_had_not(stores: Stores) -> None:
    space = "lr: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03]"
    more = "dropout: 0.2, augment: [horizontal_flip]"
    grid = make(
        "sampler: grid\n  pruner: {name: rungs, reduction_factor: 2}", epochs=5, space=space, more=more
    )
    result = sweep(grid, stores, workers=2)
    assert (result.ending, sum(result.states.values())) == ("done", 6)
    assert result.states["complete"] >= 1
    tracker = connect(stores.tracking_uri)
    found = runs(stores)
    assert len(found) == 6
    whole = found[found["tags.lab.outcome"] == "completed"]
    assert set(whole["status"]) == {"FINISHED"}
    for _, run in whole.iterrows():
        curve = tracker.history(run["run_id"], "val_loss")
        undisturbed = train(grid.config({"lr": float(run["params.lr"])}).model_copy(update={"threads": 1}))
        assert list(curve.values()) == [epoch["val_loss"] for epoch in undisturbed.history]
    assert not {f"tags.{Tag.RESTARTED}", f"tags.{Tag.CONTINUED}"} & set(
        found.columns
    )  # all from the last checkpoint
    epochs = sum(len(tracker.history(run_id, "val_loss")) for run_id in found["run_id"])
    assert epochs < 6 * 5
    assert sweep(grid, stores, workers=2).states == result.states


@pytest.mark.slow
def test_the_sampler_auto_tries_half_of_the_points_each_once(stores: Stores) -> None:
    space = "lr: [0.001, 0.01, 0.1], width: [2, 3, 4, 5]"
    grid = make("sampler: {name: auto, seed: 1}", trials=None, epochs=2, space=space)
    assert grid.budget.trials == 6
    result = sweep(grid, stores, workers=1)
    assert (result.ending, sum(result.states.values()), len(runs(stores))) == ("done", 6, 6)
    tried = {(trial.params["lr"], trial.params["width"]) for trial in trials(stores)}
    assert len(tried) == 6


def test_a_trial_that_patience_stops_is_complete(stores: Stores) -> None:
    search = "pruner: {name: percentile, percentile: 0.0, n_startup_trials: 1}\n  enqueue: [{lr: 0.0000001}]"
    space = "lr: {low: 0.0000001, high: 0.0000002}"
    result = sweep(make(search, trials=1, epochs=9, space=space, patience="2"), stores, workers=1)
    assert result.states == {"complete": 1}
    (trial,) = trials(stores)
    assert len(trial.intermediate_values) < 9
    assert trial.values == [max(trial.intermediate_values.values())]


@pytest.mark.slow
def test_constraints_are_kept_and_told_and_cost_nothing(stores: Stores) -> None:
    space = "lr: {low: 0.001, high: 0.1, log: true}, width: {low: 2, high: 9}"
    result = sweep(make(trials=4, space=space, rest="constraints: [params <= 800]"), stores, workers=2)
    assert result.states == {"complete": 4}
    found = runs(stores)
    assert len(found) == 4
    assert (found["metrics.params"] <= 800).all()
    void = [trial for trial in trials(stores) if "lab:void" in trial.user_attrs]
    assert void
    for trial in void:
        assert (trial.state, trial.values) == (TrialState.PRUNED, None)
        assert trial.constraints["params <= 800"] > 0
        assert "params <= 800 must hold, but params is" in trial.user_attrs["lab:void"]
    assert all(trial.constraints["params <= 800"] <= 0 for trial in trained(stores))


@pytest.mark.slow
def test_what_nothing_fulfils_ends_with_a_reason(stores: Stores) -> None:
    grid = make("sampler: {name: random, seed: 1}", trials=2, rest="constraints: [params <= 5]")
    with pytest.raises(LabError, match=r"100 suggestions in a row were not valid, .*params <= 5 must hold"):
        sweep(grid, stores, workers=1)
    assert not trained(stores)


@pytest.mark.slow
def test_known_points_are_tried_first_and_once(stores: Stores) -> None:
    search = "sampler: {name: random, seed: 1}\n  enqueue: [{lr: 0.02, width: 3}, {width: 4}]"
    sweep(make(search, trials=3), stores, workers=1)
    tried = [trial.params for trial in trials(stores)]
    assert tried[0] == {"lr": 0.02, "width": 3}
    assert tried[1]["width"] == 4
    sweep(make(search.replace("}]", "}, {lr: 0.03}]"), trials=4), stores, workers=1)
    assert [trial.params for trial in trials(stores)][:3] == tried
    assert trials(stores)[3].params["lr"] == 0.03


@pytest.mark.slow
def test_a_condition_leaves_a_parameter_out(stores: Stores) -> None:
    space = "optimizer: [adam, sgd], momentum: {low: 0.1, high: 0.9, when: {optimizer: sgd}}"
    search = "enqueue: [{optimizer: adam}, {optimizer: sgd}]"
    sweep(make(search, trials=2, space=space), stores, workers=1)
    assert [sorted(trial.params) for trial in trials(stores)] == [["optimizer"], ["momentum", "optimizer"]]


@pytest.mark.slow
def test_a_killed_workers_trial_goes_on_with_the_same_parameters(stores: Stores) -> None:
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        queue = TrialQueue(open_storage(stores.storage), "s")
        for trial in queue.trials(TrialState.RUNNING):
            if killed or len(trial.intermediate_values) < 2:
                continue
            with suppress(
                psutil.NoSuchProcess
            ):  # its trial, and so its worker, may have ended while this looked
                worker = psutil.Process(int(trial.user_attrs["lab:worker"].split(":")[1]))
                with asleep(worker, Path(queue.storage.engine.url.database or "")):
                    if queue.trials()[trial.number].state is TrialState.RUNNING:
                        killed.append(trial.number)
                        kill(worker)

    result = sweep(make(trials=3, epochs=30), stores, workers=2, on_progress=kill_one)
    assert (result.ending, result.states) == ("done", {"complete": 3})
    found = trials(stores)
    dead = found[killed[0]]
    (successor,) = [
        trial
        for trial in found
        if trial.number != dead.number and trial.user_attrs["lab:cell"] == dead.user_attrs["lab:cell"]
    ]
    assert dead.state is TrialState.FAIL
    assert (successor.params, successor.user_attrs["lab:run_id"]) == (
        dead.params,
        dead.user_attrs["lab:run_id"],
    )
    assert Counter(trial.state for trial in found) == {TrialState.COMPLETE: 3, TrialState.FAIL: 1}
    assert len(runs(stores)) == 3


@pytest.mark.slow
def test_it_ends_at_its_target_or_when_its_epochs_are_spent(stores: Stores) -> None:
    result = sweep(make("target: 0.01", trials=9), stores, workers=1)
    assert (result.ending, result.states["complete"], result.states["waiting"]) == ("done", 1, 8)
    result = sweep(make(trials=9, budget=", epochs: 4"), stores, workers=1)
    assert (result.ending, result.states["complete"]) == ("done", 4)


class Confidence(Metric):
    """The mean probability of the predicted class, registered by this test."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        self.add_state("confidence", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, probabilities: torch.Tensor, labels: torch.Tensor) -> None:
        self.confidence += probabilities.amax(1).sum()
        self.images += len(labels)

    def compute(self) -> torch.Tensor:
        return self.confidence / self.images


@pytest.mark.slow
def test_it_seeks_and_prunes_by_a_chosen_metric(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.metrics, "_entries", dict(registry.metrics._entries))
    registry.metrics.register("confidence", Confidence)
    search = "sampler: {name: random, seed: 1}\n  pruner: {name: median, n_startup_trials: 2}"
    text = make(search, trials=4, epochs=3).text.replace(
        "epochs: 3", "epochs: 3, metrics: [auroc, confidence]"
    )
    result = sweep(
        parse_grid(text.replace("patience", "monitor: val_auroc, patience"), "s.yaml"), stores, workers=2
    )
    assert result.states == {"complete": 4}
    assert {"test_auroc", "test_confidence"} < set(result.leaderboard.columns)
    tracker = connect(stores.tracking_uri)
    for trial in trials(stores):
        curve = tracker.history(trial.user_attrs["lab:run_id"], "val_auroc")
        assert trial.intermediate_values == curve
        assert trial.value == pytest.approx(max(curve.values())) or trial.state is TrialState.PRUNED
        assert 0.1 < trial.user_attrs["lab:test_confidence"] <= 1
    study = optuna.load_study(study_name="s", storage=stores.storage)
    assert (study.direction.name, study.best_value) == ("MAXIMIZE", result.leaderboard["best_value"].max())


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
@pytest.mark.slow
def test_several_objectives_have_a_front(stores: Stores, sampler: str) -> None:
    search = f"sampler: {{name: {sampler}, seed: 1}}\n  objectives: [val_accuracy, params]"
    result = sweep(make(search, trials=4), stores, workers=2)
    assert result.states == {"complete": 4}
    study = optuna.load_study(study_name="s", storage=stores.storage)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.best_trials
    for trial in trials(stores):
        assert trial.values == [trial.user_attrs["lab:best_value"], trial.user_attrs["lab:params"]]
    assert study_status(stores.storage, "s").best_value == result.leaderboard["best_value"].max()
    with pytest.raises(StudyError, match=r"compares by val_accuracy \(maximize\), params \(minimize\)"):
        sweep(make(trials=5), stores, workers=1)


@pytest.mark.slow
def test_a_choice_that_is_gained_or_lost(stores: Stores) -> None:
    sweep(make(trials=2, space="activation: [relu, tanh]"), stores, workers=1)
    result = sweep(make(trials=5, space="activation: [tanh, gelu]"), stores, workers=1)
    assert result.states == {"complete": 5}
    assert all(trial.params["activation"] != "relu" for trial in trained(stores)[2:])


@pytest.mark.slow
def test_a_parameter_of_another_kind_needs_another_study(stores: Stores) -> None:
    sweep(make(trials=1), stores, workers=1)
    with pytest.raises(StudyError, match=r"'width' was a number in this study and is a choice now"):
        sweep(make(trials=2, space="width: [2, 4]"), stores, workers=1)
    with pytest.raises(StudyError, match=r"'lr' was a range on a log scale in this study and is a range now"):
        sweep(make(trials=2, space="lr: {low: 0.1, high: 0.2}"), stores, workers=1)
