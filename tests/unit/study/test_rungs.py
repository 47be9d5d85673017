"""The pruner `rungs`: who stops at a rung, who goes on, and how many epochs a search costs with it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from lab.config import parse_grid
from lab.study import TrialQueue, feasible_cells, open_storage, submit
from lab.study.queue import Claim
from lab.study.record import TrialRecord
from lab.study.rescue import requeue_interrupted
from lab.study.search.rungs import RungsPruner
from lab.study.search.searcher import Searcher
from lab.tracking import MemoryTracker

EPOCHS = 9
LRS = [0.0003, 0.001, 0.003, 0.005, 0.01, 0.02, 0.04, 0.1, 0.3]


def record(
    number: int, curve: Sequence[float], state: TrialState = TrialState.PRUNED, **more: object
) -> TrialRecord:
    """Return the record of a search's trial, whose value after each epoch is in `curve`."""
    attributes = {"lab:cell": f"slot-{number}", "lab:label": f"{number}"} | {
        f"lab:{key}": more[key] for key in more
    }
    trial = create_trial(
        state=state,
        values=[curve[-1]] if state.is_finished() and state is not TrialState.FAIL else None,
        user_attrs=attributes,
        intermediate_values=dict(enumerate(curve, start=1)),
    )
    trial.number = number
    return TrialRecord(trial)


def promoted(*records: TrialRecord, maximize: bool = True, factor: int = 3) -> list[int]:
    found = RungsPruner(reduction_factor=factor).promotable(records, maximize=maximize)
    return [one.number for one in found]


def test_the_best_third_of_a_rung_goes_on() -> None:
    records = [record(number, [value]) for number, value in enumerate([0.1, 0.6, 0.3, 0.5, 0.2, 0.4])]
    assert promoted(*records) == [1, 3]
    assert promoted(*records, factor=2) == [1, 2 + 1, 5]
    assert promoted(*records, maximize=False) == [0, 4]


def test_one_of_a_few_goes_on() -> None:
    assert promoted(record(0, [0.1]), record(1, [0.2])) == [1]
    assert promoted() == []


def test_those_that_have_gone_on_keep_their_place_in_the_rung() -> None:
    gone_on = record(0, [0.9, 0.9, 0.9], TrialState.RUNNING)
    assert promoted(gone_on, *(record(number, [0.1 * number]) for number in range(1, 6))) == [5]
    assert promoted(gone_on, record(1, [0.5]), record(2, [0.4])) == []


def test_a_trial_that_patience_ended_competes_with_its_best_value() -> None:
    records = [
        record(0, [0.5, 0.9], TrialState.COMPLETE),
        record(1, [0.1, 0.2, 0.8]),
        record(2, [0.1, 0.2, 0.3]),
    ]
    assert promoted(*records) == []
    assert promoted(record(0, [0.5, 0.6], TrialState.COMPLETE), *records[1:]) == [1]


def test_what_failed_or_was_ended_by_a_user_does_not_go_on() -> None:
    assert promoted(record(0, [0.9], TrialState.FAIL), record(1, [0.2])) == [1]
    assert promoted(record(0, [0.9], stopped=True), record(1, [0.2])) == []


def test_what_a_user_ended_between_two_rungs_stays_ended() -> None:
    assert promoted(record(0, [0.9, 0.9])) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_resource": 0}, "min_resource must be at least 1, but got 0"),
        ({"reduction_factor": 1}, "reduction_factor must be at least 2, but got 1"),
    ],
)
def test_options_that_make_no_rungs(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RungsPruner(**options)


class Study:
    """A search whose trials cost nothing: the value rises with each epoch, and falls with the distance from lr=0.01."""

    def __init__(self, url: str, sampler: str = "grid", budget: str = "") -> None:
        self.url = url
        self.grid = parse_grid(
            f"name: s\nbase: {{dataset: digits, depth: 1, epochs: {EPOCHS}, patience: none}}\n"
            f"search:\n  sampler: {sampler}\n  pruner: rungs\n  space: {{lr: {LRS}}}\n{budget}\n",
            "s.yaml",
        )
        self.queue = submit(self.grid, feasible_cells(self.grid), open_storage(url), MemoryTracker()).queue

    def searcher(self, queue: TrialQueue | None = None) -> Searcher:
        assert self.grid.search is not None
        return Searcher(queue or self.queue, self.grid, self.grid.search)

    def work(self, most: int = 100) -> list[tuple[float, int, int]]:
        """Train at most so many trials; return the lr of each, and the epochs before and after."""
        searcher, attempts = self.searcher(), list[tuple[float, int, int]]()
        while len(attempts) < most and not searcher.is_exhausted():
            claim = self.queue.claim(searcher.prepare)
            if claim is not None:
                attempts.append((claim.config.lr, *self._train(searcher, claim)))
            elif not searcher.promote():
                break
        return attempts

    def _train(self, searcher: Searcher, claim: Claim) -> tuple[int, int]:
        first = epoch = TrialRecord(self.queue.storage.get_trial(claim.trial_id)).epoch
        if epoch:
            assert not searcher.prunes(claim.trial_id)  # a worker asks before it continues
        while epoch < EPOCHS:
            epoch += 1
            value = epoch / EPOCHS - abs(claim.config.lr - 0.01)
            self.queue.report(claim.trial_id, epoch, value)
            if epoch < EPOCHS and searcher.prunes(claim.trial_id):
                self.queue.prune(claim.trial_id, value)
                return first, epoch
        self.queue.complete(claim.trial_id, value)
        return first, epoch


def test_a_search_continues_the_best_and_trains_no_epoch_twice(url: str) -> None:
    study = Study(url)
    attempts = study.work()
    assert [lr for lr, first, _ in attempts if first == 0] == LRS
    # the last one need not stop at the next rung: it is the best there, and nothing waits
    assert [attempt for attempt in attempts if attempt[1]] == [(0.003, 1, 3), (0.005, 1, 3), (0.01, 1, 9)]
    states = list(study.queue.states().values())
    assert (states.count("pruned"), states.count("complete")) == (8, 1)
    assert study.queue.is_over()


def test_a_search_that_was_left_goes_on_as_if_it_had_not_been(url: str) -> None:
    attempts = [*Study(url).work(most=10), *Study(url).work()]
    assert len(attempts) == len(LRS) + 3
    assert sum(last - first for _, first, last in attempts) == 9 * 1 + 3 * 2 + 1 * 6


def test_the_same_file_goes_on_where_workers_died_before_they_could_promote(url: str) -> None:
    assert len(Study(url).work(most=len(LRS))) == len(LRS)
    queue = Study(url).queue  # submits it again
    assert sorted(record.trial.params["lr"] for record in queue.records(TrialState.WAITING)) == [
        0.003,
        0.005,
        0.01,
    ]


def test_nothing_is_promoted_once_the_epochs_are_spent(url: str) -> None:
    study = Study(url, budget="budget: {epochs: 9}")
    assert len(study.work()) == len(LRS)
    assert not study.searcher().promote()
    assert set(study.queue.states().values()) == {"pruned"}


def test_each_trial_is_promoted_once_however_many_workers_try(url: str) -> None:
    study = Study(url)
    assert len(study.work(most=len(LRS))) == len(LRS)
    searchers = [study.searcher(TrialQueue(open_storage(url), "s")) for _ in range(4)]
    with ThreadPoolExecutor(len(searchers)) as pool:
        assert any(pool.map(Searcher.promote, searchers))
    waiting = study.queue.records(TrialState.WAITING)
    assert sorted(record.trial.params["lr"] for record in waiting) == [0.003, 0.005, 0.01]
    assert {(record.promoted, record.epoch) for record in waiting} == {(1, 1)}


def test_a_promoted_trial_whose_worker_dies_does_not_stop_at_its_rung_again(url: str) -> None:
    study = Study(url)
    study.work(most=len(LRS))
    assert study.searcher().promote()
    claim = study.queue.claim()
    assert claim is not None
    study.queue.fail(claim.trial_id)  # without an outcome: what is found of a dead worker
    assert requeue_interrupted(study.queue) == 1
    assert len([lr for lr, first, _ in study.work() if first == 1]) == 3


def test_it_prunes_only_at_rungs() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(record(0, [0.1, 0.1]).trial)
    assert not RungsPruner().prune(study, study.trials[0])
