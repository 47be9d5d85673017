"""What searches do to a real study, with trials that cost nothing: claimed as workers do, and finished by a formula."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
import torch
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from lab.config import parse_grid
from lab.errors import StudyError
from lab.models import summarize_config
from lab.objective import TrialResult
from lab.study import Submission, TrialQueue, feasible_cells, open_storage, pulse, submission, submit
from lab.study.queue import Claim, Queued
from lab.study.record import TrialRecord
from lab.study.search.budget import is_exhausted
from lab.study.search.searcher import Searcher, StudySearch
from lab.tracking import MemoryTracker, RunStatus
from lab.training import Interrupted, Outcome

LR = "lr: {low: 0.001, high: 0.1, log: true}"


class Study:
    """A study whose trials are finished at once, with a value that falls with the distance from lr=0.01."""

    def __init__(self, storage: RDBStorage) -> None:
        self.storage = storage
        self.tracker = MemoryTracker()

    def plan(
        self, search: str = "", space: str = LR, budget: str = "trials: 6", rest: str = ""
    ) -> Submission:
        search = search or "sampler: {name: tpe, seed: 1, n_startup_trials: 3}"
        self.grid = parse_grid(
            "name: s\nbase: {dataset: digits, depth: 1, epochs: 2}\n"
            f"search:\n  {search}\n  space: {{{space}}}\nbudget: {{{budget}}}\n{rest}\n",
            "s.yaml",
        )
        return submit(self.grid, feasible_cells(self.grid), self.storage, self.tracker)

    def searcher(self) -> Searcher:
        queue = TrialQueue(self.storage, "s")
        assert self.grid.search is not None
        return Searcher(queue, self.grid, self.grid.search)

    def work(self, most: int = 100, searcher: Searcher | None = None) -> list[Claim]:
        """Finish at most so many trials."""
        queue, searcher, claims = TrialQueue(self.storage, "s"), searcher or self.searcher(), []
        while len(claims) < most and not searcher.is_exhausted():
            claim = queue.claim(searcher.prepare)
            if claim is None:
                break
            claims.append(claim)
            queue.report(claim.trial_id, 1, 0.5)
            values = [1 - abs(claim.config.lr - 0.01)]
            assert self.grid.search is not None
            queue.complete(claim.trial_id, *(values * len(self.grid.search.objectives)))
        return claims

    def trials(self) -> list[FrozenTrial]:
        return TrialQueue(self.storage, "s").trials()

    def states(self) -> dict[str, int]:
        states = list(TrialQueue(self.storage, "s").states().values())
        return {state: states.count(state) for state in sorted(set(states))}


@pytest.fixture
def study(url: str) -> Study:
    return Study(open_storage(url))


@pytest.mark.parametrize("sampler", ["auto", "random", "tpe", "gp", "qmc", "nsga2"])
def test_every_sampler_fills_its_budget_with_different_points(study: Study, sampler: str) -> None:
    study.plan(
        f"sampler: {{name: {sampler}, seed: 1}}", budget="trials: 12", space=f"{LR}, optimizer: [adam, sgd]"
    )
    assert len(study.work()) == 12
    assert study.states() == {"complete": 12}
    assert len({(trial.params["lr"], trial.params["optimizer"]) for trial in study.trials()}) == 12


def test_budget_raised_and_lowered_and_sampler_changed(study: Study) -> None:
    submission = study.plan(budget="trials: 4")
    assert (submission.added, submission.present) == (4, 0)
    study.work(2)
    assert study.plan(budget="trials: 3").added == 0
    assert study.states() == {"complete": 2, "waiting": 1}
    submission = study.plan("sampler: qmc", budget="trials: 7")
    assert (submission.added, submission.present) == (4, 3)
    assert len(study.work()) == 5
    assert study.states() == {"complete": 7}
    assert study.plan(budget="trials: 2").added == 0
    assert study.states() == {"complete": 7}


def test_a_draft_that_two_sweeps_queued_is_used_once(study: Study) -> None:
    queue = study.plan(budget="trials: 2").queue
    queue.draft("slot-0")
    queue.draft("slot-1")
    assert len(study.work()) == 2
    assert study.states() == {"complete": 2}
    assert [trial.user_attrs["lab:void"] for trial in study.trials()[2:]] == ["a surplus draft"] * 2


def test_what_breaks_a_constraint_is_told_and_not_counted(study: Study) -> None:
    study.plan(
        "sampler: {name: random, seed: 1}",
        space=f"{LR}, width: {{low: 2, high: 40}}",
        rest="constraints: [params <= 3000]",
    )
    claims = study.work()
    assert len(claims) == 6
    void = [trial for trial in study.trials() if "lab:void" in trial.user_attrs]
    assert void
    for trial in void:
        assert (trial.state, trial.values) == (TrialState.PRUNED, None)
        assert trial.constraints["params <= 3000"] > 0
        assert "params <= 3000 must hold, but params is" in trial.user_attrs["lab:void"]
    kept = [trial for trial in study.trials() if trial.state is TrialState.COMPLETE]
    assert all(trial.constraints["params <= 3000"] <= 0 for trial in kept)


def test_what_is_excluded_or_makes_no_trial_is_not_trained(study: Study) -> None:
    study.plan(
        "sampler: {name: random, seed: 1}",
        space="optimizer: [adam, sgd, rmsprop], momentum: {low: 0.0, high: 0.9}, depth: {low: 1, high: 5}",
        rest="exclude: [{optimizer: adam}]",
    )
    claims = study.work()
    assert len(claims) == 6
    assert {claim.config.optimizer for claim in claims} <= {"sgd", "rmsprop"}
    reasons = {trial.user_attrs["lab:void"] for trial in study.trials() if "lab:void" in trial.user_attrs}
    assert "excluded: optimizer=adam" in reasons


@pytest.mark.parametrize("tries", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_nothing_that_may_be_trained_ends_with_a_reason(
    study: Study, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.study.search.searcher._TRIES", tries)
    study.plan("sampler: {name: random, seed: 1}", rest="constraints: [params <= 5]")
    with pytest.raises(
        StudyError, match=rf"{tries} suggestions in a row were not valid, .*params <= 5 must hold"
    ):
        study.work()
    assert study.states() == {"waiting": 6}


def test_known_points_come_first_and_once(study: Study) -> None:
    space = f"{LR}, width: {{low: 2, high: 6}}"
    search = "sampler: {name: random, seed: 1}\n  enqueue: [{lr: 0.02, width: 3}, {width: 4}]"
    study.plan(search, space=space, budget="trials: 3")
    first = [dict(claim.params) for claim in study.work()]
    assert first[0] == {"lr": 0.02, "width": 3}
    assert first[1]["width"] == 4
    study.plan(search.replace("}]", "}, {lr: 0.03}]"), space=space, budget="trials: 5")
    second = [dict(claim.params) for claim in study.work()]
    assert second[0]["lr"] == 0.03
    assert [trial.user_attrs.get("lab:enqueued") for trial in study.trials()].count({"width": 4}) == 1


def test_what_is_left_open_in_a_known_point_is_chosen_again_where_it_breaks_a_constraint(
    study: Study,
) -> None:
    study.plan(
        "sampler: {name: random, seed: 1}\n  enqueue: [{lr: 0.02}]",
        space=f"{LR}, width: {{low: 2, high: 40}}",
        budget="trials: 2",
        rest="constraints: [params <= 3000]",
    )
    assert 0.02 in [claim.config.lr for claim in study.work()]


def test_a_dead_workers_trial_keeps_its_parameters(study: Study) -> None:
    queue = study.plan(budget="trials: 2", rest="constraints: [params <= 100000]").queue
    claim = queue.claim(study.searcher().prepare)
    assert claim is not None
    queue.fail(claim.trial_id)  # without an outcome: what is found of a dead worker
    study.plan(budget="trials: 2", rest="constraints: [params <= 100000]")
    claims = study.work()
    assert len(claims) == 2
    again = next(each for each in claims if each.params == claim.params)
    assert (again.config, again.label) == (claim.config, claim.label)
    assert study.trials()[again.number].constraints.keys() == {"params <= 100000"}
    assert study.states() == {"complete": 2}


def test_a_worker_that_died_before_it_had_chosen_leaves_its_known_point(study: Study) -> None:
    queue = study.plan("enqueue: [{lr: 0.02}]", budget="trials: 1").queue
    trial_id = queue.storage.get_all_trials(queue.study_id)[0]._trial_id
    queue.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    queue.fail(trial_id)
    study.plan("enqueue: [{lr: 0.02}]", budget="trials: 1")
    assert [claim.config.lr for claim in study.work()] == [0.02]


def test_a_worker_is_not_silent_while_its_sampler_takes_long(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Searcher):
        def _prepare(self, trial_id: int) -> bool:
            end = time.monotonic() + 30
            while len(beats) < 3 and time.monotonic() < end:
                time.sleep(0.01)
            return super()._prepare(trial_id)

    monkeypatch.setattr(pulse, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(pulse, "HEARTBEAT_SECONDS", 0.02)
    queue = study.plan(budget="trials: 1").queue
    assert study.grid.search is not None
    searcher = Slow(TrialQueue(study.storage, "s"), study.grid, study.grid.search)
    beats: list[int] = []
    monkeypatch.setattr(searcher._queue, "beat", beats.append)
    claim = queue.claim(searcher.prepare)
    assert claim is not None
    assert beats[:3] == [claim.trial_id] * 3


def test_an_interrupted_worker_gives_its_draft_back(study: Study) -> None:
    queue = study.plan(budget="trials: 1").queue
    assert study.grid.search is not None
    searcher = Searcher(queue, study.grid, study.grid.search, lambda: True)
    with pytest.raises(Interrupted, match="asked to stop"):
        queue.claim(searcher.prepare)
    assert study.states() == {"waiting": 1}


def test_conditions_leave_parameters_out(study: Study) -> None:
    space = "optimizer: [adam, sgd], momentum: {low: 0.1, high: 0.9, when: {optimizer: sgd}}"
    study.plan("enqueue: [{optimizer: adam}, {optimizer: sgd}]", space=space, budget="trials: 2")
    claims = study.work()
    assert [sorted(claim.params) for claim in claims] == [["optimizer"], ["momentum", "optimizer"]]


def test_it_is_over_at_its_target_or_when_its_epochs_are_spent(study: Study) -> None:
    submission = study.plan("target: 0.5", budget="trials: 9")
    assert len(study.work()) == 1
    assert is_exhausted(study.grid, submission.queue)
    study.plan(budget="trials: 9, epochs: 4")
    assert len(study.work()) == 3
    study.plan(budget="trials: 9")
    assert len(study.work()) == 5


def test_choices_are_gained_and_lost(study: Study) -> None:
    study.plan(space="activation: [relu, tanh]", budget="trials: 4")
    study.work()
    study.plan(space="activation: [tanh, gelu]", budget="trials: 12")
    later = study.work()
    assert len(later) == 8
    assert "relu" not in {claim.config.activation for claim in later}


def test_a_range_can_be_changed(study: Study) -> None:
    study.plan(budget="trials: 4")
    study.work()
    study.plan(space="lr: {low: 0.2, high: 0.3, log: true}", budget="trials: 8")
    assert all(0.2 <= claim.config.lr <= 0.3 for claim in study.work())


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("lr: [0.1, 0.2]", r"'lr' was a number in this study and is a choice now"),
        ("lr: {low: 0.1, high: 0.2}", r"'lr' was a range on a log scale in this study and is a range now"),
    ],
)
def test_a_parameter_of_another_kind_needs_another_study(study: Study, space: str, message: str) -> None:
    study.plan(budget="trials: 1")
    study.work()
    run_id = TrialQueue(study.storage, "s").record().run_id
    study.tracker.attach(run_id).end(RunStatus.FINISHED)
    with pytest.raises(StudyError, match=message):
        study.plan(space=space)
    assert study.tracker.status(run_id) == RunStatus.FINISHED  # and not open for ever


def test_several_objectives_are_directions_of_the_study(study: Study) -> None:
    study.plan("sampler: nsga2\n  objectives: [val_accuracy, params]")
    assert len(study.work()) == 6
    assert TrialQueue(study.storage, "s").record().maximize
    with pytest.raises(StudyError, match=r"compares by val_accuracy \(maximize\), params \(minimize\)"):
        study.plan()


def test_without_its_search_a_file_has_only_cells(study: Study) -> None:
    study.plan(budget="trials: 3")
    study.work(1)
    grid = parse_grid("name: s\nbase: {dataset: digits, depth: 1, epochs: 2}", "s.yaml")
    queue = submit(grid, feasible_cells(grid), study.storage, study.tracker).queue
    assert study.states() == {"complete": 1, "waiting": 1}
    assert queue.record().search is None
    claim = queue.claim()
    assert claim is not None
    assert claim.label == "s"


GRID = "lr: {low: 0.01, high: 0.03, step: 0.01}, optimizer: [adam, sgd]"


def test_the_grid_sampler_tries_every_point_once_and_what_a_grown_file_adds(study: Study) -> None:
    when = "momentum: {choices: [0.5, 0.9], when: {optimizer: sgd}}"
    assert study.plan("sampler: grid", f"{GRID}, {when}", budget="").added == 9
    study.work()
    tried = [
        (claim["lr"], claim["optimizer"], claim.get("momentum"))
        for claim in (trial.params for trial in study.trials())
    ]
    assert sorted(tried, key=str) == sorted(
        [(lr, "adam", None) for lr in (0.01, 0.02, 0.03)]
        + [(lr, "sgd", momentum) for lr in (0.01, 0.02, 0.03) for momentum in (0.5, 0.9)],
        key=str,
    )
    assert study.plan("sampler: grid", f"{GRID.replace('0.03', '0.04')}, {when}", budget="").added == 3
    study.work()
    assert [trial.params["lr"] for trial in study.trials()[9:]] == [0.04] * 3
    assert study.states() == {"complete": 12}


def test_the_grid_sampler_leaves_out_what_breaks_a_constraint_and_keeps_to_a_budget(study: Study) -> None:
    space = "width: {low: 2, high: 202, step: 100}"
    assert study.plan("sampler: grid", space, budget="", rest="constraints: [params <= 20000]").added == 2
    assert study.plan("sampler: grid", space, budget="trials: 1").added == 0
    study.work()
    assert study.states() == {"complete": 1}


def rates(study: Study) -> list[float]:
    return sorted(trial.params["lr"] for trial in study.trials() if trial.state is TrialState.COMPLETE)


def test_the_grid_sampler_tries_what_a_changed_file_has_new(study: Study) -> None:
    study.plan("sampler: grid", "lr: [0.01, 0.02, 0.03]", budget="")
    study.work(2)
    submission = study.plan("sampler: grid", "lr: [0.02, 0.04, 0.05]", budget="")
    assert (submission.added, submission.present) == (2, 1)
    study.work()
    assert rates(study) == [0.01, 0.02, 0.04, 0.05]
    assert study.plan("sampler: grid", "lr: [0.01, 0.02, 0.03]", budget="").added == 1
    study.work()
    assert rates(study) == [0.01, 0.02, 0.03, 0.04, 0.05]


def test_the_grid_sampler_tries_every_point_that_another_sampler_has_left(study: Study) -> None:
    space = "lr: [0.01, 0.02, 0.03, 0.04]"
    study.plan("sampler: {name: random, seed: 1}", space, budget="trials: 4")
    study.work(3)
    tried = set(rates(study))
    study.plan("sampler: grid", space, budget="")
    assert {claim.config.lr for claim in study.work()} == {0.01, 0.02, 0.03, 0.04} - tried


@pytest.mark.parametrize("search", ["sampler: grid", "enqueue: [{lr: 0.01}, {lr: 0.02}, {lr: 0.03}]"])
def test_points_that_a_lowered_budget_left_out_are_tried_when_it_is_raised_again(
    study: Study, search: str
) -> None:
    for budget in ("trials: 3", "trials: 1", "trials: 3"):
        study.plan(search, "lr: [0.01, 0.02, 0.03]", budget=budget)
    study.work()
    assert rates(study) == [0.01, 0.02, 0.03]


def test_a_worker_finds_no_draft_without_its_point(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    enqueue = TrialQueue.enqueue

    def look(queue: TrialQueue, trials: Iterable[Queued]) -> None:
        enqueue(queue, trials)
        seen.extend([record.enqueued for record in queue.records()])

    monkeypatch.setattr(TrialQueue, "enqueue", look)
    study.plan("sampler: grid", "lr: [0.01, 0.02]", budget="")
    assert seen == [{"lr": 0.01}, {"lr": 0.02}]


def test_a_trial_that_ends_without_a_value_has_the_worst(study: Study) -> None:
    queue = study.plan().queue
    searcher = study.searcher()
    claim = queue.claim(searcher.prepare)
    assert claim is not None
    summary = summarize_config(claim.config, (1, 8, 8), 10)
    nothing = (None, None, (), None, None)
    result = TrialResult(claim.config, "", Outcome.PRUNED, *nothing, summary, torch.nn.Identity())
    assert searcher.finish(claim.trial_id, result, pruned=True) == [0.0]
    queue.report(claim.trial_id, 1, 0.5)
    assert searcher.finish(claim.trial_id, result, pruned=True) == [0.5]


@pytest.mark.parametrize("during", ["submission", "choice"])
def test_a_worker_may_choose_while_a_file_with_more_choices_is_submitted(
    study: Study, during: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler, more = "sampler: {name: tpe, seed: 1}", f"{LR}, optimizer: [adam, sgd, rmsprop]"
    queue = study.plan(sampler, f"{LR}, optimizer: [adam, sgd]").queue
    search = StudySearch(queue)

    def claim(*_: object) -> bool:
        claim = queue.claim(search.prepare)
        assert claim is not None
        queue.complete(claim.trial_id, 0.5)
        return True

    claim()
    if during == "submission":
        open_run = submission._open_run
        monkeypatch.setattr(submission, "_open_run", lambda *given: claim() and open_run(*given))
        study.plan(sampler, more)
    else:
        choose = Searcher._choose

        def submit_first(searcher: Searcher, trial_id: int, record: TrialRecord) -> bool:
            monkeypatch.setattr(Searcher, "_choose", choose)
            study.plan(sampler, more)
            return choose(searcher, trial_id, record)

        monkeypatch.setattr(Searcher, "_choose", submit_first)
        claim()
    study.work()
    known = {str(trial.distributions["optimizer"]) for trial in study.trials()}
    assert known == {"CategoricalDistribution(choices=('adam', 'sgd', 'rmsprop'))"}
    assert study.states() == {"complete": 6}
