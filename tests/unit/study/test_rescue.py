"""What is requeued or put back for other workers: once, with what it had, and until it is given up."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from lab.study import (
    StudyKey,
    TrialKey,
    TrialQueue,
    is_left,
    open_storage,
    put_back_dead,
    put_back_gone,
    requeue_dead,
    requeue_deleted,
    requeue_failed,
    requeue_interrupted,
    rescue,
)
from lab.study.queue import Claim

MakeQueue = Callable[[int], TrialQueue]
DEAD = f"{socket.gethostname()}:{os.getpid()}:0.00"  # whose process id is another process's now


def claimed(queue: TrialQueue) -> Claim:
    claim = queue.claim()
    assert claim is not None
    return claim


def dead(queue: TrialQueue) -> Claim:
    claim = claimed(queue)
    queue.note_trial(claim.trial_id, TrialKey.WORKER, DEAD)
    return claim


def failed(queue: TrialQueue, error: str = "ValueError: no") -> Claim:
    claim = claimed(queue)
    queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
    queue.note_trial(claim.trial_id, TrialKey.ERROR, error)
    queue.fail(claim.trial_id)
    return claim


def states(queue: TrialQueue) -> list[str]:
    return [str(state) for state in queue.states().values()]


def test_a_dead_workers_trial_is_requeued_with_its_run_until_it_is_given_up(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    queue.note(StudyKey.CONCLUDED, True)
    for retry in range(3):
        claim = dead(queue)
        queue.note_trial(claim.trial_id, TrialKey.RUN_ID, "r1")
        queue.report(claim.trial_id, retry + 1, 0.5)
        assert states(queue) == ["interrupted"]
        given_up = requeue_dead(queue)
    assert [(record.trial_id, record.run_id) for record in given_up] == [(claim.trial_id, "r1")]
    assert states(queue) == ["failed"]
    assert [record.retries for record in queue.records()] == [0, 1, 2]
    (newest,) = queue.newest().values()
    assert newest.trial.intermediate_values == {1: 0.5, 2: 0.5, 3: 0.5}
    assert requeue_dead(queue) == []


def test_a_living_workers_trial_is_left_alone(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    claimed(queue)
    dead(queue)
    assert requeue_dead(queue) == []
    assert sorted(states(queue)) == ["running", "waiting"]


def test_what_was_failed_without_a_successor_is_requeued_by_anybody(make_queue: MakeQueue) -> None:
    for requeue in (requeue_dead, requeue_interrupted):
        queue = make_queue(1)
        queue.note(StudyKey.CONCLUDED, True)
        queue.fail(dead(queue).trial_id)
        assert states(queue)[-1] == "interrupted"
        assert requeue(queue) in ([], 1)
        assert not queue.record().concluded
        assert requeue_interrupted(queue) == 0
        queue.complete(claimed(queue).trial_id, 0.5)


def test_a_retry_resets_the_count_and_keeps_the_error(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    dead(queue)
    requeue_dead(queue)
    queue.complete(claimed(queue).trial_id, 0.5)
    again = failed(queue)
    assert again.tried
    record = queue.newest()[queue.records()[0].cell]
    assert requeue_failed(queue, ["another"]) == 0
    assert requeue_failed(queue, [record.cell]) == 1
    assert requeue_failed(queue) == 0
    claim = claimed(queue)
    assert (claim.earlier_error, claim.run_id) == ("ValueError: no", None)
    assert queue.records()[-1].retries == 0


def test_a_deleted_runs_cell_starts_anew(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    for run_id in ("gone", "there"):
        claim = claimed(queue)
        queue.note_trial(claim.trial_id, TrialKey.RUN_ID, run_id)
        queue.complete(claim.trial_id, 0.5)
    assert requeue_deleted(queue, set()) == 0
    assert requeue_deleted(queue, {"gone"}, ["another"]) == 0
    assert requeue_deleted(queue, {"gone"}) == 1
    claim = claimed(queue)
    assert (claim.label, claim.run_id, claim.tried) == ("lr=0.001", None, False)


def test_what_was_put_back_is_left_until_somebody_takes_it(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    claim = dead(queue)
    (record,) = put_back_dead(queue)
    assert record.trial_id == claim.trial_id
    assert is_left(queue, record)
    assert put_back_dead(queue) == []
    assert claimed(queue).trial_id == claim.trial_id
    assert not is_left(queue, record)


def test_what_was_given_up_is_left_until_it_is_requeued(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    queue.note(StudyKey.MAX_RETRIES, 0)
    dead(queue)
    (record,) = requeue_dead(queue)
    assert is_left(queue, record)
    assert requeue_failed(queue) == 1
    assert not is_left(queue, record)


def act(queue: TrialQueue, claim: Claim, step: str) -> None:
    if step == "die":
        queue.note_trial(claim.trial_id, TrialKey.WORKER, DEAD)
    elif step == "put back":
        queue.put_back(claim.trial_id)
    elif step == "fail":
        queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
        queue.fail(claim.trial_id)
    else:
        queue.complete(claim.trial_id, 0.5)


STEPS = st.lists(st.sampled_from(["die", "fail", "complete", "put back", "rescue", "retry"]), max_size=12)


@settings(max_examples=10)
@given(steps=STEPS)
def test_no_cell_is_lost_or_there_twice(new_queue: Callable[[int], TrialQueue], steps: list[str]) -> None:
    queue = new_queue(2)
    for step in steps:
        if step == "rescue":
            requeue_dead(queue)
        elif step == "retry":
            requeue_failed(queue)
        elif (claim := queue.claim()) is not None:
            act(queue, claim, step)
    unfinished = [record.cell for record in queue.records(TrialState.WAITING, TrialState.RUNNING)]
    assert len(unfinished) == len(set(unfinished))
    assert len(queue.states()) == 2
    while not queue.is_over():
        requeue_dead(queue)
        while (claim := queue.claim()) is not None:
            queue.complete(claim.trial_id, 0.5)
    assert set(states(queue)) <= {"complete", "failed"}


def elsewhere(queue: TrialQueue, name: str) -> Claim:
    claim = claimed(queue)
    queue.note_trial(claim.trial_id, TrialKey.WORKER, name)
    return claim


A, B = "node1:7:1.00", "node2:7:1.00"


def test_a_worker_elsewhere_is_dead_when_its_launcher_says_so(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    elsewhere(queue, A)
    assert requeue_dead(queue, [B]) == []
    assert states(queue) == ["running"]
    assert requeue_dead(queue, [A]) == []
    assert states(queue) == ["waiting"]
    assert [record.retries for record in queue.records()] == [0, 1]
    assert requeue_dead(queue, [A]) == []
    assert len(queue.records()) == 2


def test_what_is_put_back_for_a_worker_that_is_gone_counts_no_retry(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    first = elsewhere(queue, A)
    assert [record.trial_id for record in put_back_gone(queue, [A])] == [first.trial_id]
    assert elsewhere(queue, B).trial_id == first.trial_id
    assert put_back_gone(queue, [A]) == []
    assert requeue_dead(queue, [A]) == []
    (record,) = queue.records()
    assert (record.worker_name, record.retries) == (B, 0)


def test_a_process_seen_dead_is_left_to_its_launcher_if_that_will_tell(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    dead(queue)
    assert requeue_dead(queue, spared=[DEAD]) == []
    assert states(queue) == ["interrupted"]
    assert put_back_gone(queue, [DEAD])
    assert states(queue) == ["waiting"]


FATES = st.lists(
    st.tuples(st.sampled_from(["claim", "complete", "put back", "blamed", "blameless"]), st.integers(0, 3)),
    max_size=16,
)


@settings(max_examples=15)
@given(steps=FATES)
def test_a_late_word_of_a_workers_end_never_disturbs_the_next_holder(
    new_queue: Callable[[int], TrialQueue], steps: list[tuple[str, int]]
) -> None:
    """Workers on other machines claim and end; that one has exited may be told late, twice and in any order."""
    queue = new_queue(2)
    queue.note(StudyKey.MAX_RETRIES, 100)
    workers: list[tuple[str, Claim]] = []
    held: dict[int, str] = {}  # by trial: who has it, and lives
    deaths = 0
    for step, which in steps:
        if step == "claim":
            claim = queue.claim()
            if claim is not None:
                name = f"node{len(workers)}:1:1.00"
                queue.note_trial(claim.trial_id, TrialKey.WORKER, name)
                workers.append((name, claim))
                held[claim.trial_id] = name
        elif workers:
            name, claim = workers[which % len(workers)]
            holds = held.get(claim.trial_id) == name
            if step == "complete" and holds:
                queue.complete(claim.trial_id, 0.5)
            elif step == "put back":
                queue.put_back(claim.trial_id, name)
            elif step == "blamed":
                requeue_dead(queue, [name])
                deaths += holds
            elif step == "blameless":
                put_back_gone(queue, [name])
            if holds:
                del held[claim.trial_id]
        running = {record.trial_id: record.worker_name for record in queue.records(TrialState.RUNNING)}
        assert running == held
    assert len(queue.states()) == 2
    assert sum(record.retries for record in queue.newest().values()) == deaths


@pytest.mark.parametrize("word", [requeue_dead, put_back_gone])
def test_only_one_of_several_supervisors_requeues(
    make_queue: MakeQueue, word: Callable[[TrialQueue, list[str]], object]
) -> None:
    queue = make_queue(1)
    elsewhere(queue, A)
    with ThreadPoolExecutor(4) as pool:
        others = [TrialQueue(open_storage(str(queue.storage.engine.url)), "s") for _ in range(4)]
        list(pool.map(lambda other: word(other, [A]), others))
    assert states(queue) == ["waiting"]
    assert len(queue.records(TrialState.WAITING, TrialState.RUNNING)) == 1


def last_heard(queue: TrialQueue, seconds: int) -> None:
    """Let all workers have sent their last heartbeat so long ago."""
    with queue.storage.engine.begin() as connection:
        ago = f"datetime('now', '-{seconds} seconds')"
        connection.execute(sa.text(f"UPDATE trial_heartbeats SET heartbeat = {ago}"))


@pytest.mark.parametrize(("seconds", "is_dead"), [(61, False), (500, False), (700, True)])
def test_a_worker_here_that_is_awake_is_dead_once_it_is_silent_for_longer_than_any_waits(
    make_queue: MakeQueue, seconds: int, *, is_dead: bool
) -> None:
    queue = make_queue(1)
    claimed(queue)
    last_heard(queue, seconds)
    assert requeue_dead(queue) == []
    assert states(queue) == ["waiting" if is_dead else "running"]


def test_a_worker_here_that_is_stopped_is_dead_after_its_silence(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            process.send_signal(signal.SIGSTOP)
            created = psutil.Process(process.pid).create_time()
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                time.sleep(0.01)
            elsewhere(queue, f"{socket.gethostname()}:{process.pid}:{created:.2f}")
            last_heard(queue, 30)
            requeue_dead(queue)
            assert states(queue) == ["running"]
            last_heard(queue, 61)
            requeue_dead(queue)
            assert states(queue) == ["waiting"]
        finally:
            process.kill()


def test_nobodys_silence_counts_while_the_database_is_locked(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "_BUSY_SECONDS", 0.3)
    queue = make_queue(1)
    elsewhere(queue, A)
    last_heard(queue, 61)
    locked = sqlite3.connect(
        queue.storage.engine.url.database or "", isolation_level=None, check_same_thread=False
    )
    locked.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(1.0, locked.execute, ["ROLLBACK"])
    timer.start()
    assert requeue_dead(queue) == []
    timer.join()
    locked.close()
    assert states(queue) == ["running"]
    monkeypatch.setattr(rescue, "_BUSY_SECONDS", 60.0)
    assert requeue_dead(queue) == []
    assert states(queue) == ["waiting"]


@pytest.mark.filterwarnings("ignore::lab.errors.LabWarning")
def test_nobodys_silence_counts_while_the_database_has_just_come_back(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(1)
    elsewhere(queue, A)
    last_heard(queue, 61)
    broken = [sa.exc.OperationalError("SELECT 1", {}, Exception("gone"), connection_invalidated=True)]

    def look() -> None:
        if broken:
            raise broken.pop()

    queue.storage.patiently(look)
    assert requeue_dead(queue) == []
    assert states(queue) == ["running"]
    monkeypatch.setattr(rescue, "GRACE_SECONDS", 0.0)  # as if it had been back for that long
    assert requeue_dead(queue) == []
    assert states(queue) == ["waiting"]


def test_a_heartbeat_that_comes_while_others_are_requeued_is_seen(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(2)
    elsewhere(queue, A)
    second = elsewhere(queue, B)
    last_heard(queue, 61)
    fail = queue.fail

    def slowly_fail(trial_id: int) -> None:
        fail(trial_id)
        queue.beat(second.trial_id)

    monkeypatch.setattr(queue, "fail", slowly_fail)
    assert requeue_dead(queue) == []
    assert sorted(states(queue)) == ["running", "waiting"]
