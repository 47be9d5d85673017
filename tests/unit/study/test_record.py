"""Records: the one state of a trial, the forms of earlier versions, and values that lab would not have written."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from lab.identity import ProcessName, process_name
from lab.study import State, StudyKey, StudyRecord, TrialKey, TrialRecord
from lab.study.keys import is_lab_study, noted, study_attributes

CELL = "0123456789abcdef"
DEAD = "{}:{}:0.00".format(*process_name().split(":")[:2])  # whose process id is another process's now


def keys(names: type) -> list[str]:
    return [value for name, value in vars(names).items() if name.isupper()]


def trial(state: TrialState, attributes: Mapping[str, Any], *, old: bool = False) -> FrozenTrial:
    named = attributes if old else {noted(key): value for key, value in attributes.items()}
    values = [0.5] if state is TrialState.COMPLETE else None
    return optuna.trial.create_trial(state=state, user_attrs=dict(named), values=values)


def record(state: TrialState, study: StudyRecord | None = None, **attributes: Any) -> TrialRecord:
    return TrialRecord(trial(state, {"cell": CELL, **attributes}), study, missing={"gone"})


CANCELLED = StudyRecord("s", cancelled=True)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (record(TrialState.WAITING), State.WAITING),
        (record(TrialState.WAITING, CANCELLED), State.CANCELLED),
        (record(TrialState.RUNNING, worker=process_name()), State.RUNNING),
        (record(TrialState.RUNNING, CANCELLED, worker=process_name()), State.RUNNING),
        (record(TrialState.RUNNING, worker="elsewhere:1:1.00"), State.RUNNING),  # its heartbeat tells
        (record(TrialState.RUNNING, worker="another form"), State.RUNNING),
        (record(TrialState.RUNNING, worker=DEAD), State.INTERRUPTED),
        (record(TrialState.RUNNING, worker=DEAD, run_id="gone"), State.INTERRUPTED),
        (record(TrialState.FAIL), State.INTERRUPTED),  # its worker died, and nobody has requeued it
        (record(TrialState.FAIL, outcome="completed"), State.INTERRUPTED),
        (record(TrialState.FAIL, retries=1), State.INTERRUPTED),
        (record(TrialState.FAIL, retries=2), State.FAILED),
        (record(TrialState.FAIL, StudyRecord("s", max_retries=0)), State.FAILED),
        (record(TrialState.FAIL, outcome="failed"), State.FAILED),
        (record(TrialState.FAIL, outcome="failed", run_id="gone"), State.DELETED),
        (record(TrialState.COMPLETE), State.COMPLETE),
        (record(TrialState.COMPLETE, run_id="there"), State.COMPLETE),
        (record(TrialState.COMPLETE, run_id="gone"), State.DELETED),
        (record(TrialState.PRUNED), State.PRUNED),
        (record(TrialState.PRUNED, run_id="gone"), State.DELETED),
    ],
)
def test_the_state_of_a_trial(found: TrialRecord, state: State) -> None:
    assert found.state is state


@pytest.mark.parametrize("hours", [-9, 0, 9])
def test_a_claim_by_a_machine_with_another_clock_or_time_zone_is_not_thought_dead(hours: int) -> None:
    claimed = trial(TrialState.RUNNING, {"cell": CELL})  # its worker is about to say its name
    claimed.datetime_start = datetime.now() - timedelta(hours=hours)
    assert TrialRecord(claimed).state is State.RUNNING


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(list(TrialState)), st.dictionaries(st.sampled_from(keys(TrialKey)), json_values))
@example(TrialState.RUNNING, {"params": math.inf})
@example(TrialState.RUNNING, {"params": math.nan})
@example(TrialState.COMPLETE, {"best_value": 10**400})
def test_no_value_of_another_form_breaks_a_record(state: TrialState, attributes: dict[str, Any]) -> None:
    found = TrialRecord(trial(state, attributes), missing={"gone"})
    for name in [name for name, value in vars(TrialRecord).items() if isinstance(value, property)]:
        if name != "draft_number":  # asked only of a search's trials
            getattr(found, name)
    assert isinstance(found.state, State)
    assert isinstance(found.label, str)
    assert found.config is None or isinstance(found.config, dict)
    assert found.kept(anew=True).items() <= found.kept().items()


@given(st.sampled_from(list(TrialState)), st.dictionaries(st.sampled_from(keys(TrialKey)), json_values))
def test_a_trial_of_an_earlier_version_is_read_like_one_of_this(
    state: TrialState, attributes: dict[str, Any]
) -> None:
    attributes |= {TrialKey.CELL: CELL, TrialKey.LABEL: "it"}
    new, old = (TrialRecord(trial(state, attributes, old=old)) for old in (False, True))
    assert new.is_own
    assert old.is_own
    assert (new.state, new.kept(), new.best_value) == (old.state, old.kept(), old.best_value)
    assert [key in new for key in keys(TrialKey)] == [key in old for key in keys(TrialKey)]


@given(st.dictionaries(st.sampled_from(keys(TrialKey)), json_values))
def test_what_another_program_notes_under_the_same_names_is_not_read(theirs: dict[str, Any]) -> None:
    mine = {noted(TrialKey.CELL): CELL, noted(TrialKey.LABEL): "it"}
    mixed = optuna.trial.create_trial(state=TrialState.WAITING, user_attrs={**theirs, **mine})
    found = TrialRecord(mixed)
    assert found.is_own
    assert found.kept() == {TrialKey.CELL: CELL, TrialKey.LABEL: "it"}
    assert (found.run_id, found.worker, found.is_void, found.retries) == (None, None, False, 0)


STUDY_VALUES = st.dictionaries(st.sampled_from(keys(StudyKey)), json_values)


@given(STUDY_VALUES)
def test_a_study_of_an_earlier_version_is_read_like_one_of_this(attributes: dict[str, Any]) -> None:
    new = StudyRecord.read("s", {noted(key): value for key, value in attributes.items()})
    assert new == StudyRecord.read("s", attributes)


@given(STUDY_VALUES, st.booleans())
def test_a_value_of_another_form_counts_as_none(attributes: dict[str, Any], maximize: bool) -> None:
    found = StudyRecord.read("s", attributes, maximize=maximize)
    read = StudyRecord.read("s", study_attributes(attributes), maximize=maximize)
    assert replace(found, fault="") == replace(read, fault="")
    assert isinstance(found.max_retries, int)
    assert all(isinstance(name, str) for name in found.needs)


def test_what_a_study_lacks_to_be_trained() -> None:
    sound = {"experiment": "s", "monitor": "val_loss", "run_id": "0" * 32}
    assert StudyRecord.read("s", sound).fault == ""
    for key in sound:
        left = {name: value for name, value in sound.items() if name != key}
        assert f"'{key}' is missing or malformed" in StudyRecord.read("s", left).fault
        assert f"'{key}' is missing or malformed" in StudyRecord.read("s", {**sound, key: 3}).fault
    for needs in (3, [3], "s"):
        assert "not a list of studies" in StudyRecord.read("s", {**sound, "needs": needs}).fault
    assert StudyRecord.read("s", {**sound, "needs": ["a"]}).needs == ("a",)


def test_a_study_is_labs_by_its_mark_or_its_form() -> None:
    sound = {"experiment": "s", "monitor": "val_loss", "run_id": "0" * 32}
    assert is_lab_study("s", {noted(StudyKey.MARK): 1})
    assert is_lab_study("s", sound)
    assert is_lab_study("s", {**sound, "run_id": "pending-1"})
    assert not is_lab_study("other", sound)
    assert not is_lab_study("s", {})


@given(st.floats(0.001, 1e9), st.floats(-1e9, 1e9))
def test_a_study_is_late_once_its_time_has_passed(seconds: float, ago: float) -> None:
    now = time.time()
    study = StudyRecord("s", seconds=seconds, began=now - ago)
    assert study.deadline == now - ago + seconds
    if abs(ago - seconds) > 60:
        assert study.is_late is (ago > seconds)
    assert not StudyRecord("s", seconds=seconds).is_late
    assert not StudyRecord("s", began=now - ago).is_late


@given(
    st.from_regex(r"[a-z][a-z0-9.:-]*", fullmatch=True), st.integers(0, 999_999_999), st.integers(0, 10**12)
)
def test_a_workers_name_is_read_as_it_is_written(host: str, pid: int, created: int) -> None:
    name = ProcessName(host, pid, f"{created / 100:.2f}")
    assert ProcessName.parse(str(name)) == name


@pytest.mark.parametrize("text", ["", "me", "host:1", "host:x:1.00", f"host:{10**30}:1.00", ":1:1.00"])
def test_what_is_not_a_workers_name(text: str) -> None:
    assert ProcessName.parse(text) is None


def test_this_process_lives() -> None:
    name = ProcessName.parse(process_name())
    assert name is not None
    assert not name.is_dead()
    assert name._replace(created="0.00").is_dead()  # its id was given to another process
    assert not name._replace(host="elsewhere", created="0.00").is_dead()
