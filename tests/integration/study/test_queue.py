"""The queue: each trial to exactly one claimer, put back whole, re-queued once when its worker is gone."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from lab.config import TrialConfig
from lab.errors import StudyError
from lab.study import (
    DeletedError,
    TrialQueue,
    open_storage,
    open_study,
    put_back_gone,
    requeue_dead,
    study_status,
)
from lab.study.distributions import accept
from lab.study.forecast import Forecast
from lab.study.record import TrialRecord


def make_queue(url: str, cells: int) -> TrialQueue:
    storage = open_storage(url)
    queue, _ = open_study(storage, "s", ["maximize"])
    for number in range(cells):
        add(queue, number)
    return queue


def add(queue: TrialQueue, number: int) -> None:
    lr = (number + 1) / 1000
    queue.add(TrialConfig(lr=lr), f"lr={lr}", {"lr": lr}, {"lr": FloatDistribution(0.001, 10)})


def drain(url: str, barrier: Any, results: Any) -> None:
    queue = TrialQueue(open_storage(url), "s")
    barrier.wait()
    taken = []
    while claim := queue.claim():
        taken.append(claim.number)
        queue.complete(claim.trial_id, 0.5)
    results.put(taken)


def test_processes_that_claim_at_once_never_share_a_trial(url: str) -> None:
    make_queue(url, 60)
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=drain, args=(url, barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    taken = [number for _ in processes for number in results.get(timeout=200)]
    for process in processes:
        process.join()
    assert sorted(taken) == list(range(60))


def test_a_claim_carries_what_a_worker_needs(url: str) -> None:
    claim = make_queue(url, 1).claim()
    assert claim is not None
    assert claim.config == TrialConfig(lr=0.001)
    assert (claim.number, claim.label, claim.params, claim.run_id) == (0, "lr=0.001", {"lr": 0.001}, None)


def test_claims_go_in_order_and_end(url: str) -> None:
    queue = make_queue(url, 3)
    assert [claim.number for claim in iter(queue.claim, None)] == [0, 1, 2]
    assert queue.claim() is None


def test_a_trial_put_back_is_claimed_again_with_its_run(url: str) -> None:
    queue = make_queue(url, 1)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, "run_id", "r1")
    queue.put_back(claim.trial_id)
    again = TrialQueue(queue.storage, "s").claim()
    assert again is not None
    assert (again.number, again.run_id) == (0, "r1")


def test_several_facts_are_noted_at_once_new_ones_and_others(url: str) -> None:
    queue = make_queue(url, 2)
    claim, other = queue.claim(), queue.claim()
    assert claim is not None
    assert other is not None
    queue.note_trial(claim.trial_id, "outcome", "killed")
    before = queue.storage.get_trial(claim.trial_id).user_attrs
    queue.note_facts(claim.trial_id, {"outcome": "completed", "test_accuracy": 0.5, "loss": math.nan})
    noted = queue.storage.get_trial(claim.trial_id).user_attrs
    assert math.isnan(noted.pop("lab:loss"))
    assert noted == {**before, "lab:outcome": "completed", "lab:test_accuracy": 0.5}
    assert "lab:outcome" not in queue.storage.get_trial(other.trial_id).user_attrs


def test_nothing_is_noted_about_a_trial_that_has_ended_or_is_not_there(url: str) -> None:
    queue = make_queue(url, 1)
    claim = queue.claim()
    assert claim is not None
    queue.complete(claim.trial_id, 0.5)
    with pytest.raises(UpdateFinishedTrialError, match="has already finished"):
        queue.note_facts(claim.trial_id, {"outcome": "failed"})
    assert "lab:outcome" not in queue.storage.get_trial(claim.trial_id).user_attrs
    with pytest.raises(DeletedError, match="another program has deleted it"):
        queue.note_facts(99, {"outcome": "failed"})


def test_a_living_workers_trial_is_left_alone(url: str) -> None:
    queue = make_queue(url, 1)
    queue.claim()
    assert requeue_dead(queue) == []
    assert [trial.state for trial in queue.trials()] == [TrialState.RUNNING]


def die_with_a_trial(url: str) -> None:
    queue = TrialQueue(open_storage(url), "s")
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, "run_id", "r1")
    queue.report(claim.trial_id, 1, 0.25)


def run_process(url: str) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=die_with_a_trial, args=(url,))
    process.start()
    process.join()


def test_a_dead_workers_trial_is_requeued_once_with_all_it_had(url: str) -> None:
    queue = make_queue(url, 1)
    run_process(url)
    assert requeue_dead(queue) == []
    assert requeue_dead(queue) == []
    assert [trial.state for trial in queue.trials()] == [TrialState.FAIL, TrialState.WAITING]
    successor = queue.trials()[1]
    assert successor.intermediate_values == {1: 0.25}
    claim = queue.claim()
    assert claim is not None
    assert (claim.config, claim.run_id) == (TrialConfig(lr=0.001), "r1")


def test_a_claim_whose_worker_was_killed_before_it_said_its_name_is_requeued_after_its_silence(
    url: str,
) -> None:
    queue = make_queue(url, 1)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, "worker", None)
    assert requeue_dead(queue) == []
    assert queue.is_disowned()
    with queue.storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'"))
    assert requeue_dead(queue) == []
    assert [trial.state for trial in queue.trials()] == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.parametrize("most", [0, 2])
def test_a_trial_that_kills_its_process_every_time_is_given_up(url: str, most: int) -> None:
    queue = make_queue(url, 1)
    queue.note("max_retries", most)
    for _ in range(most):
        run_process(url)
        assert requeue_dead(queue) == []
    run_process(url)
    assert [record.run_id for record in requeue_dead(queue)] == ["r1"]
    assert Counter(trial.state for trial in queue.trials()) == {TrialState.FAIL: most + 1}
    (failed,) = study_status(url, "s").failed
    assert failed["error"] == "its process died every time it was tried"


def test_optunas_own_tools_see_the_trials(url: str) -> None:
    make_queue(url, 2)
    study = optuna.load_study(study_name="s", storage=url)
    assert [trial.params for trial in study.trials] == [{"lr": 0.001}, {"lr": 0.002}]


def test_a_categorical_may_gain_values(url: str) -> None:
    queue = make_queue(url, 0)
    for number, choices in enumerate((["relu"], ["relu", "tanh"], ["gelu", "relu", "tanh"])):
        config = TrialConfig(activation=choices[-1], lr=number + 1)
        distributions = accept({"activation": CategoricalDistribution(choices)}, queue)
        queue.add(config, "", {"activation": choices[-1]}, distributions)
    study = optuna.load_study(study_name="s", storage=url)
    assert [trial.params["activation"] for trial in study.trials] == ["relu", "tanh", "tanh"]


def test_a_number_may_become_a_fraction_and_its_range_grow(url: str) -> None:
    queue = make_queue(url, 0)
    for value, distribution in ((1, IntDistribution(1, 2)), (0.5, FloatDistribution(0.5, 0.5))):
        config = TrialConfig(lr=float(value))
        queue.add(config, "", {"x": value}, accept({"x": distribution}, queue))
    study = optuna.load_study(study_name="s", storage=url)
    assert [trial.params["x"] for trial in study.trials] == [1, 0.5]
    assert study.trials[0].distributions["x"] == FloatDistribution(0.5, 2)


def test_a_number_that_becomes_a_choice_needs_another_study(url: str) -> None:
    queue = make_queue(url, 1)
    with pytest.raises(StudyError, match="'lr' was a number in this study and is a choice now"):
        accept({"lr": CategoricalDistribution(["low", "high"])}, queue)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("optuna.db", "'optuna.db' is not a database address; use e.g. sqlite:///"),
        ("postgresql://me@host:port/lab", "'postgresql://me@host:port/lab' is not a database address"),
        ("sqlite:////proc/none/optuna.db", "sqlite:////proc/none/optuna.db cannot be opened"),
        ("nosuchdb://host/x", "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_opened(address: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        open_storage(address)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, but long enough to look like one " * 50)
    with pytest.raises(StudyError, match="file is not a database"):
        open_storage(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_password_stays_out_of_the_error() -> None:
    with pytest.raises(StudyError, match=r"postgresql://me:\*\*\*@") as caught:
        open_storage("postgresql://me:hunter2@127.0.0.1:1/lab")
    assert "hunter2" not in str(caught.value)


class Overtaken(TrialQueue):
    """The queue of a process that is slow: `losses` times another one is quicker to claim the trial it is about to."""

    losses = 1

    def _readable(self, trial_id: int) -> TrialRecord:
        record = super()._readable(trial_id)
        if self.losses and not record.alone:
            self.losses -= 1
            assert self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return record


def test_who_was_too_slow_for_the_next_trial_takes_any_of_those_after_it(url: str) -> None:
    """Then not all processes go for the same trial, and wait for each other."""
    slow = Overtaken(make_queue(url, 20).storage, "s")
    first = slow.claim()
    assert first is not None
    assert 1 <= first.number <= 8
    others = [claim.number for claim in iter(slow.claim, None)]
    assert sorted([first.number, *others]) == list(range(1, 20))
    assert others[3:] == sorted(others[3:])  # as nobody else claims, they go in order again


def test_who_is_often_too_slow_still_finds_each_trial_that_is_for_it(url: str) -> None:
    queue = make_queue(url, 30)
    for trial in queue.trials()[::2]:
        queue.note_trial(trial._trial_id, "alone", True)
    slow = Overtaken(queue.storage, "s")
    slow.losses = 3
    claims = [claim.number for claim in iter(lambda: slow.claim(alone=False), None)]
    left = [trial.number for trial in queue.trials(TrialState.WAITING)]
    assert left == list(range(0, 30, 2))
    assert len(claims) == len(set(claims)) == 12


def test_how_long_a_trial_takes_and_what_time_it_is(url: str) -> None:
    queue = make_queue(url, 2)
    claim = queue.claim()
    assert claim is not None
    queue.complete(claim.trial_id, 0.5)
    (waiting,) = queue.records(TrialState.WAITING)
    seconds = Forecast(queue).seconds(waiting)
    assert seconds is not None
    assert 0 <= seconds < 60
    before = time.time()
    assert before - 5 <= queue.storage.now() <= time.time() + 5


@pytest.mark.parametrize("word", [requeue_dead, put_back_gone])
def test_a_worker_that_its_launcher_knows_to_have_exited(url: str, word: Any) -> None:
    queue = make_queue(url, 1)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, "worker", "another:7:1.00")
    word(queue, ["another:7:1.00"])
    assert queue.waiting() == 1
    assert queue.claim() is not None
    word(queue, ["another:7:1.00"])
    assert [trial.state for trial in queue.trials()][-1] is TrialState.RUNNING
