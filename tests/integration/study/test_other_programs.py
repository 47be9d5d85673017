"""A database that others use too: what is not lab's is left alone, and one broken study stops no other."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from lab.config import TrialConfig
from lab.errors import StudyError
from lab.study import (
    Studies,
    TrialQueue,
    find_queue,
    known_studies,
    open_storage,
    open_study,
    overview,
    requeue_dead,
    study_status,
)
from lab.study.keys import is_lab_study, noted
from lab.study.record import TrialRecord

HOSTILE: dict[str, Any] = {
    "worker": "me",
    "cell": "kitchen",
    "config": 3,
    "run_id": [1],
    "retries": "often",
    "outcome": {},
    "label": None,
    "void": True,
}


def lab_study(url: str, name: str = "labs", cells: int = 1) -> TrialQueue:
    queue, _ = open_study(open_storage(url), name, ["maximize"])
    for key, value in {"experiment": name, "monitor": "val_accuracy", "run_id": "0" * 32}.items():
        queue.note(key, value)
    for number in range(cells):
        lr = (number + 1) / 1000
        queue.add(TrialConfig(lr=lr), f"lr={lr}", {"lr": lr}, {"lr": FloatDistribution(0.001, 10)})
    return queue


def another_program(url: str, name: str) -> optuna.Study:
    """A plain Optuna program, with heartbeats, one of whose trials waits and one runs, silent for years."""
    storage = RDBStorage(open_storage(url).url, heartbeat_interval=60)
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True)
    trial = study.ask()
    study.enqueue_trial({"x": 0.5})
    for key, value in HOSTILE.items():
        trial.set_user_attr(key, value)
    storage.record_heartbeat(trial._trial_id)
    with storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'"))
    return study


def pass_years(queue: TrialQueue, trial_id: int) -> None:
    """Let the last heartbeat of a trial have been years ago."""
    with queue.storage.engine.begin() as connection:
        statement = "UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00' WHERE trial_id = :trial"
        connection.execute(sa.text(statement), {"trial": trial_id})


def test_another_programs_study_is_seen_as_such_and_left_alone(url: str) -> None:
    lab_study(url)
    foreign = another_program(url, "foreign")
    assert known_studies(url) == ({"labs": 1}, ["foreign"])
    studies = Studies(url)
    assert [queue.name for queue in studies.ready()] == ["labs"]
    for queue in studies.queues():
        requeue_dead(queue)
    assert [status.name for status in overview(url).studies] == ["labs"]
    for ask in (
        lambda: find_queue(url, "foreign"),
        lambda: open_study(open_storage(url), "foreign", ["minimize"]),
    ):
        with pytest.raises(StudyError, match=r"'foreign' is not lab's: .* Give a grid file another `name`"):
            ask()
    assert [trial.state for trial in foreign.get_trials()] == [TrialState.RUNNING, TrialState.WAITING]
    foreign.tell(0, 3.4998)  # and its program goes on
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert [trial.state for trial in foreign.get_trials()] == [TrialState.COMPLETE] * 2


def test_trials_that_another_program_adds_to_labs_study_are_left_alone(url: str) -> None:
    lab_study(url, cells=0)
    foreign = another_program(url, "labs")
    before = [trial.user_attrs for trial in foreign.get_trials()]
    queue = lab_study(url)
    assert queue.waiting() == 1
    claim = queue.claim()
    assert claim is not None
    queue.complete(claim.trial_id, 0.5)
    assert queue.claim() is None
    assert requeue_dead(queue) == []
    assert (queue.waits(), queue.is_over(), len(queue.trials()), len(queue.others())) == (False, True, 1, 2)
    status = study_status(url, "labs")
    assert (status.states, status.others, status.best_value) == ({"complete": 1}, 2, 0.5)
    states = [trial.state for trial in foreign.get_trials()]
    assert states == [TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE]
    assert [trial.user_attrs for trial in foreign.get_trials()[:2]] == before


def test_a_trial_that_another_program_asked_for_is_requeued_after_its_silence(url: str) -> None:
    queue = lab_study(url)
    taken = optuna.load_study(study_name="labs", storage=RDBStorage(open_storage(url).url)).ask()
    assert requeue_dead(queue) == []  # it may tell how the trial ended
    assert [trial.state for trial in queue.trials()] == [TrialState.RUNNING]
    assert requeue_dead(queue) == []
    pass_years(queue, taken._trial_id)
    assert requeue_dead(queue) == []
    assert [trial.state for trial in queue.trials()] == [TrialState.FAIL, TrialState.WAITING]
    claim = queue.claim()
    assert claim is not None
    queue.complete(claim.trial_id, 0.5)
    assert (queue.is_disowned(), queue.is_over()) == (False, True)


def test_another_programs_parameters_that_cannot_be_joined_are_one_error(url: str) -> None:
    queue = lab_study(url, cells=0)
    optuna.load_study(study_name="labs", storage=queue.storage).ask({"norm": CategoricalDistribution(["x"])})
    distribution = CategoricalDistribution(["batch", "none"])
    with pytest.raises(StudyError, match=r"Another program has added trials .* give the grid another `name`"):
        queue.add(TrialConfig(), "norm=batch", {"norm": "batch"}, {"norm": distribution})


def test_a_study_without_anything_is_taken_over_as_a_killed_planner_leaves_one(url: str) -> None:
    optuna.create_study(study_name="labs", storage=open_storage(url), direction="maximize")
    assert known_studies(url).others == ["labs"]
    lab_study(url)
    assert known_studies(url) == ({"labs": 1}, [])


OLD = {"experiment": "old", "run_id": "0" * 32, "monitor": "val_accuracy"}


@pytest.mark.parametrize(
    "changed", [{"experiment": "another"}, {"run_id": "r1"}, {"monitor": 3}, {"monitor": None}]
)
def test_what_an_earlier_version_made_is_known_by_its_form(url: str, changed: dict[str, Any]) -> None:
    assert is_lab_study("old", OLD)
    assert not is_lab_study("old", {**OLD, **changed})
    study = optuna.create_study(study_name="old", storage=open_storage(url), direction="maximize")
    for key, value in OLD.items():
        study.set_user_attr(key, value)
    attributes = {
        "cell": TrialConfig().cell_hash,
        "config": {},
        "label": "it",
        "run_id": "1" * 32,
        "retries": 1,
    }
    study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attributes))
    queue = find_queue(url, "old")
    assert queue is not None
    claim = queue.claim()
    assert claim is not None
    assert (claim.label, claim.run_id, claim.tried) == ("it", "1" * 32, True)
    (trial,) = queue.trials()
    assert TrialRecord(trial).worker is not None
    queue.put_back(claim.trial_id)
    assert not TrialRecord(queue.trials()[0]).has_worker
    assert queue.record().experiment == "old"


def spoil(url: str, statement: str) -> None:
    with open_storage(url).engine.begin() as connection:
        connection.execute(sa.text(statement))


POISON = {
    "a config of a newer version": (
        "UPDATE trial_user_attributes SET value_json = '{\"width_2\": 4}' WHERE key = 'lab:config' AND trial_id = 2",
        "The trial 0 .* cannot be read: width_2: unknown setting",
    ),
    "no config": (
        "DELETE FROM trial_user_attributes WHERE key = 'lab:config' AND trial_id = 2",
        "The trial 0 .* cannot be read: it has no config",
    ),
    "an attribute that is not JSON": (
        "UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'lab:label' AND trial_id = 2",
        "The trial with the id 2 .* an attribute is not JSON",
    ),
}


@pytest.mark.parametrize(("statement", "said"), POISON.values(), ids=POISON.keys())
def test_a_trial_that_cannot_be_read_waits_and_the_others_are_claimed(
    url: str, statement: str, said: str
) -> None:
    lab_study(url, "healthy")
    queue = lab_study(url, "poisoned", cells=3)
    spoil(url, statement)
    assert [claim.number for claim in (queue.claim(), queue.claim()) if claim] == [1, 2]
    with pytest.raises(StudyError, match=said):
        queue.claim()
    waiting = queue.rows(sa.text("SELECT number FROM trials WHERE state = 'WAITING' AND study_id = 2"))
    assert [number for (number,) in waiting] == [0]
    assert [status.name for status in overview(url).studies] == ["healthy", "poisoned"]


BROKEN = {
    "no experiment": "DELETE FROM study_user_attributes WHERE key = 'lab:experiment' AND study_id = 2",
    "needs that are a number": "UPDATE study_user_attributes SET value_json = '3' WHERE key = 'lab:needs'",
    "not JSON": "UPDATE study_user_attributes SET value_json = '{' WHERE key != 'lab:study' AND study_id = 2",
}


@pytest.mark.parametrize("statement", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_study_is_named_with_its_reason_and_the_others_go_on(url: str, statement: str) -> None:
    lab_study(url, "healthy")
    lab_study(url, "broken").note("needs", [])
    spoil(url, statement)
    told: dict[str, str] = {}
    studies = Studies(url, on_broken=lambda name, error: told.update({name: str(error)}))
    assert [queue.name for queue in studies.ready()] == ["healthy"]
    assert told.keys() == {"broken"}
    healthy, broken = sorted(overview(url).studies, key=lambda status: status.name != "healthy")
    assert (healthy.states, healthy.trouble) == ({"waiting": 1}, "")
    assert broken.trouble


def test_a_study_that_was_deleted_and_made_again_is_seen_by_a_worker_that_lives(url: str) -> None:
    studies = Studies(url)
    lab_study(url)
    assert [queue.waiting() for queue in studies.queues()] == [1]
    optuna.delete_study(study_name="labs", storage=open_storage(url))
    lab_study(url, cells=3)
    assert [queue.waiting() for queue in studies.queues()] == [3]


@pytest.mark.parametrize(
    "form", ["me", "", 3, None, {"a": 1}, "host:1", "host:x:1.00", f"host:{10**30}:1.00"]
)
def test_no_form_of_an_attribute_is_trusted(form: Any) -> None:
    names = (
        "label",
        "worker",
        "config",
        "run_id",
        "retries",
        "outcome",
        "error",
        "best_value",
        "params",
        "enqueued",
    )
    attributes = {noted("cell"): "slot-0"} | {noted(name): form for name in names}
    record = TrialRecord(optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attributes))
    assert record.is_own
    assert record.worker is None
    assert isinstance(record.label, str)
    assert isinstance(record.retries, int)
    assert record.config is None or isinstance(record.config, dict)
    assert record.best_value is None or isinstance(record.best_value, float)
