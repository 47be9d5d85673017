from __future__ import annotations

import time

import pytest

from lab.engines import Progress
from lab.engines.progress import Running
from lab.study import EpochEnded, TrialEnded, TrialStarted, WorkerDied


def make(maximize: bool = True, total: int = 4) -> Progress:
    return Progress("s", "val_accuracy", maximize=maximize, total=total)


def ended(number: int, outcome: str = "completed", value: float | None = 0.5) -> TrialEnded:
    return TrialEnded(number, f"t{number}", outcome, value)


def counts(progress: Progress) -> tuple[int, int, int, int]:
    return progress.done, len(progress.running), progress.waiting, progress.failed


def test_counts() -> None:
    progress = make()
    assert counts(progress) == (0, 0, 4, 0)
    progress.take(0, TrialStarted(0, "t0", 5))
    progress.take(1, TrialStarted(1, "t1", 5))
    assert counts(progress) == (0, 2, 2, 0)
    progress.take(0, ended(0))
    progress.take(1, ended(1, "failed", None))
    assert counts(progress) == (1, 0, 2, 1)
    progress.take(0, TrialStarted(2, "t2", 5))
    progress.take(0, WorkerDied(2, "t2", "its process was killed"))
    assert counts(progress) == (1, 0, 3 - 1, 1)
    progress.take(1, TrialStarted(2, "t2", 5))
    progress.take(1, ended(2, "killed", None))  # put back
    assert counts(progress) == (1, 0, 2, 1)
    assert [event.number for event in progress.ended] == [0, 1, 2]


def test_a_trial_that_was_given_up_has_failed_though_no_worker_says_so() -> None:
    progress = make()
    progress.take(0, TrialStarted(0, "t0", 5))
    progress.take(None, ended(1, "failed", None))
    assert counts(progress) == (0, 1, 2, 1)


def test_what_others_train_is_no_longer_waiting_and_no_trial_counts_twice() -> None:
    progress = make()
    progress.take(0, TrialStarted(0, "t0", 5))
    progress.recount(
        Progress(
            "s",
            "val_accuracy",
            maximize=True,
            total=7,  # three more were queued
            done=2,
            failed=1,
            running={0: Running("t5", 5), 1: Running("t6", 5)},
            ended=[ended(0), ended(1, value=0.9), ended(2, "failed", None)],
            best_label="t1",
            best_value=0.9,
        )
    )
    progress.take(0, ended(0))  # which the database knew already
    assert (*counts(progress), progress.elsewhere) == (2, 0, 3, 1, 1)
    assert (progress.best_label, progress.best_value) == ("t1", 0.9)
    assert [event.number for event in progress.ended] == [0]  # of this sweep
    progress.take(1, TrialStarted(3, "t3", 5))
    progress.take(1, ended(3))
    assert (*counts(progress), progress.elsewhere) == (3, 0, 2, 1, 1)


@pytest.mark.parametrize("outcome", ["completed", "early_stopped", "diverged", "not_converged"])
def test_every_outcome_but_failed_and_killed_is_done(outcome: str) -> None:
    progress = make()
    progress.take(0, ended(0, outcome))
    assert progress.done == 1


def test_a_pruned_trial_that_goes_on_counts_once() -> None:
    progress = make()
    progress.take(0, TrialStarted(0, "t0", 5))
    progress.take(0, ended(0, "pruned"))
    assert counts(progress) == (1, 0, 3, 0)
    progress.take(0, TrialStarted(4, "t0", 5))
    assert counts(progress) == (0, 1, 3, 0)
    progress.take(0, WorkerDied(4, "t0", "its process was killed"))
    progress.take(0, TrialStarted(5, "t0", 5))
    progress.take(0, TrialEnded(5, "t0", "completed", 0.5))
    assert counts(progress) == (1, 0, 3, 0)


@pytest.mark.parametrize(("maximize", "best"), [(True, 0.9), (False, 0.1)])
def test_the_best_so_far(maximize: bool, best: float) -> None:
    progress = make(maximize)
    for number, value in enumerate((0.5, 0.9, 0.1)):
        progress.take(0, ended(number, value=value))
    progress.improve("nothing", None)
    progress.improve("no number", float("nan"))
    assert progress.best_value == best


def test_epochs_of_running_trials() -> None:
    progress = make()
    progress.take(0, TrialStarted(0, "t0", 5))
    progress.take(0, EpochEnded(0, 1, {"val_accuracy": 0.25, "train_loss": 2.0}))
    progress.take(0, EpochEnded(0, 2, {"train_loss": 1.0}))  # nothing to watch in it
    progress.take(3, EpochEnded(9, 2, {"val_accuracy": 1.0}))  # of a worker that was given up
    assert (progress.running[0].epoch, progress.running[0].value) == (2, 0.25)
    assert list(progress.running) == [0]


def test_the_time_left() -> None:
    progress = make()
    assert progress.seconds_left() is None
    progress.started = time.monotonic() - 10
    progress.take(0, ended(0, "killed", None))
    assert progress.seconds_left() is None  # what was put back says nothing
    progress.take(0, ended(1))
    assert progress.seconds_left() == pytest.approx(30, abs=0.5)
    progress.take(0, TrialStarted(2, "t2", 4))
    progress.take(0, EpochEnded(2, 2, {}))
    assert progress.seconds_left() == pytest.approx(26, abs=0.5)  # its end counts as one more epoch
    progress.take(0, EpochEnded(2, 4, {}))
    progress.total = 2
    assert progress.seconds_left() == pytest.approx(2, abs=0.5)  # it is still there
