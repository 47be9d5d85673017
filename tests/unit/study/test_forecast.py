"""How long a trial will take, and that a worker begins none for which there is no time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from lab.config import TrialConfig, parse_config, parse_grid
from lab.study import (
    Event,
    TrialEnded,
    TrialKey,
    TrialQueue,
    TrialStarted,
    WorkerSettings,
    feasible_cells,
    open_storage,
    submit,
    work,
)
from lab.study.forecast import Forecast
from lab.study.record import TrialRecord
from lab.tracking import connect

MakeQueue = Callable[[int], TrialQueue]

GRID = """
name: s
base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, batch_size: 256, epochs: 2}
grid: {lr: [0.01, 0.02, 0.03]}
"""


def took(queue: TrialQueue, trial_id: int, seconds: float) -> None:
    """Have a complete trial have taken so long."""
    ended = datetime.now()
    change = sa.text(
        "UPDATE trials SET datetime_start = :began, datetime_complete = :ended WHERE trial_id = :trial"
    )
    values = {"began": str(ended - timedelta(seconds=seconds)), "ended": str(ended), "trial": trial_id}
    with queue.storage.engine.begin() as connection:
        connection.execute(change, values)


def completed(queue: TrialQueue, seconds: float, *, continued: bool = False) -> None:
    claim = queue.claim()
    assert claim is not None
    if continued:
        queue.note_trial(claim.trial_id, TrialKey.PUT_BACK, True)
    queue.complete(claim.trial_id, 0.5)
    took(queue, claim.trial_id, seconds)


def waiting(queue: TrialQueue) -> TrialRecord:
    return queue.records(TrialState.WAITING)[0]


def test_without_ended_trials_nothing_is_known(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    assert Forecast(queue).seconds(waiting(queue)) is None


def test_the_median_of_the_trials_that_one_worker_has_trained(make_queue: MakeQueue) -> None:
    queue = make_queue(6)
    completed(queue, 2, continued=True)
    assert Forecast(queue).seconds(waiting(queue)) == pytest.approx(2)
    for seconds in (100, 900, 110):
        completed(queue, seconds)
    assert Forecast(queue).seconds(waiting(queue)) == pytest.approx(110)


def test_a_trial_that_a_pruner_let_go_on_took_its_time_for_the_rest(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, TrialKey.PROMOTED, TrialConfig().epochs // 2)
    queue.complete(claim.trial_id, 0.5)
    took(queue, claim.trial_id, 100)
    assert Forecast(queue).seconds(waiting(queue)) == pytest.approx(200)


def test_what_is_trained_already_and_fewer_epochs_take_no_time(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    completed(queue, 100)
    queue.add(TrialConfig(epochs=TrialConfig().epochs * 2), "long", {}, {})
    short, long = queue.records(TrialState.WAITING)
    assert Forecast(queue).seconds(long) == pytest.approx(200)
    queue.storage.set_trial_intermediate_value(short.trial_id, TrialConfig().epochs // 2, 0.5)
    assert Forecast(queue).seconds(waiting(queue)) == pytest.approx(50)


def test_a_draft_is_expected_to_be_like_the_others(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    completed(queue, 100)
    queue.draft("slot-0")
    assert Forecast(queue).seconds(waiting(queue)) == pytest.approx(100)


def test_a_config_is_judged_by_trials_that_were_as_much_work(make_queue: MakeQueue) -> None:
    queue = make_queue(3)
    for seconds in (100, 900, 110):
        completed(queue, seconds)
    known = parse_config(queue.records()[0].config or {})
    assert Forecast(queue).like(
        known.model_copy(update={"lr": 0.5, "epochs": 2 * known.epochs})
    ) == pytest.approx(220)
    assert Forecast(queue).like(known.model_copy(update={"batch_size": 17})) is None


def test_only_a_trial_that_fits_is_claimed_and_the_search_for_one_is_short(make_queue: MakeQueue) -> None:
    queue, seen = make_queue(30), list[str]()

    def fits(record: TrialRecord) -> bool:
        seen.append(record.label)
        return record.label == "lr=0.003"

    claim = queue.claim(fits=fits)
    assert claim is not None
    assert claim.label == "lr=0.003"
    seen.clear()
    assert queue.claim(fits=fits) is None
    assert len(seen) == 20


@pytest.fixture
def settings(url: str, tracking_uri: str, tmp_path: Path) -> WorkerSettings:
    grid = parse_grid(GRID, "s.yaml")
    submit(grid, feasible_cells(grid), open_storage(url), connect(tracking_uri, tmp_path / "artifacts"))
    return WorkerSettings("s", url, tracking_uri, tmp_path / "artifacts", tmp_path / "checkpoints")


def worked(settings: WorkerSettings) -> tuple[int, int]:
    events: list[Event] = []
    work(settings, events.append, lambda: False)
    began, ended = (sum(isinstance(event, kind) for event in events) for kind in (TrialStarted, TrialEnded))
    return began, ended


def test_a_worker_begins_its_first_trial_and_then_only_what_fits(settings: WorkerSettings) -> None:
    queue = TrialQueue(open_storage(settings.storage), "s")
    assert worked(replace(settings, until=time.time() - 1)) == (1, 1)
    (done,) = queue.records(TrialState.COMPLETE)
    assert TrialKey.OUTCOME in done
    took(queue, done.trial_id, 3600)
    assert worked(replace(settings, until=time.time() + 1800)) == (1, 1)
    assert queue.waiting() == 1
    assert worked(replace(settings, until=time.time() + 1800)) == (1, 1)
    assert queue.is_over()


def test_a_worker_with_time_trains_all(settings: WorkerSettings) -> None:
    assert worked(replace(settings, until=time.time() + 3600)) == (3, 3)
