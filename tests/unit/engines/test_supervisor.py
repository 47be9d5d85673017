"""The supervisor over stand-in devices and workers that train nothing, on a real queue."""

from __future__ import annotations

import math
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import pytest
from optuna.trial import TrialState

from lab.config import parse_grid
from lab.engines import Stores, supervisor
from lab.engines.devices import Device
from lab.engines.launcher import Exited
from lab.engines.seats import Seat, Sharing
from lab.engines.supervisor import Supervisor
from lab.errors import ResourceError, StudyError
from lab.study import (
    DeletedError,
    EpochEnded,
    Event,
    TrialEnded,
    TrialKey,
    TrialQueue,
    TrialStarted,
    WorkerDied,
    WorkerFailed,
    WorkerSettings,
    feasible_cells,
    open_storage,
    open_study,
    submit,
)
from lab.study.queue import Claim
from lab.tracking import MemoryTracker
from lab.tracking.lock import Lock, is_held_elsewhere

GB = 10**9
HALF = Fraction(1, 2)
GONE = f"{socket.gethostname()}:99999999:1.00"  # the name of a worker whose process has exited

Play = Callable[["Worker", Claim], Iterator[Event]]


def train(worker: Worker, claim: Claim) -> Iterator[Event]:
    """Do as a worker does whose trial comes to its end."""
    worker.queue.complete(claim.trial_id, 0.5)
    yield TrialEnded(claim.number, claim.label, "completed", 0.5)


class Killed(Exception):  # noqa: N818
    """Ends a stand-in worker as SIGKILL would, or as its launcher says."""

    def __init__(self, exited: Exited | None = None) -> None:
        super().__init__()
        self.exited = exited or Exited(-signal.SIGKILL)


@dataclass
class Worker:
    """A stand-in worker: it takes a step whenever it is listened to.

    `name` is that of its process on another machine, which nothing but its launcher knows to have exited.
    """

    queue: TrialQueue
    settings: WorkerSettings
    seat: Seat
    play: Play
    stopped: bool = False
    name: str = ""

    def steps(self) -> Iterator[Event | None]:
        while not self.stopped:
            claim = self.queue.claim(alone=self.settings.alone, only_alone=self.settings.only_alone)
            if claim is None:
                return
            if self.name:
                self.queue.note_trial(claim.trial_id, TrialKey.WORKER, self.name)
            yield TrialStarted(claim.number, claim.label, 1, self.name)
            if self.stopped:
                self.queue.put_back(claim.trial_id, self.name or None)
                yield TrialEnded(claim.number, claim.label, "killed")
                return
            try:
                yield from self.play(self, claim)
            except Killed:
                if not self.name:
                    self.queue.note_trial(claim.trial_id, TrialKey.WORKER, GONE)
                raise


@dataclass
class StandIn:
    """A launcher of stand-in workers."""

    queue: TrialQueue
    there: Sequence[Device]
    play: Play = train
    living: dict[int, Iterator[Event | None]] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)
    most: int = 0

    def devices(self) -> Sequence[Device]:
        return self.there

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        self.workers.append(Worker(self.queue, settings, seat, self.play))
        self.living[len(self.workers) - 1] = self.workers[-1].steps()
        self.most = max(self.most, len(self.living))
        return len(self.workers) - 1

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        for number, steps in list(self.living.items()):
            event: Event | Exited | None
            try:
                event = next(steps)
            except StopIteration:
                event = Exited(0)
            except Killed as killed:
                event = killed.exited
            except ZeroDivisionError as error:
                event = Exited(1, f"ZeroDivisionError: {error}")
            if isinstance(event, Exited):
                del self.living[number]
            if event is not None:
                yield number, event

    def stop(self, worker: int | None = None) -> None:
        for number in list(self.living) if worker is None else [worker]:
            self.workers[number].stopped = True

    def kill(self) -> None:
        for trial in self.queue.records():
            if trial.trial.state.name == "RUNNING":
                self.queue.note_trial(trial.trial_id, TrialKey.WORKER, GONE)
        self.living.clear()

    def pending(self) -> Collection[int]:
        return ()

    def notes(self) -> Sequence[str]:
        return ()

    def __len__(self) -> int:
        return len(self.living)

    @property
    def seats(self) -> list[tuple[str, Fraction]]:
        """Where workers were started, in order."""
        return [(worker.seat.device.name, worker.seat.share) for worker in self.workers]


class Elsewhere(StandIn):
    """A launcher of stand-in workers on other machines."""

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        number = super().start(settings, seat)
        self.workers[number].name = f"node{number}:{number + 1}:1.00"
        return number

    def kill(self) -> None:
        self.living.clear()


@dataclass
class Noted:
    """A policy for one study that notes what it is told."""

    queue: TrialQueue
    stop_seconds: float = math.inf
    rivals: Sequence[str] | None = None
    enough: Callable[[list[Event]], bool] = lambda events: False
    events: list[Event] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    settled: int = 0

    def should_stop(self) -> bool:
        return bool(self.errors) or self.enough(self.events)

    def studies(self) -> list[TrialQueue]:
        return [self.queue]

    def ready(self) -> list[TrialQueue]:
        return [self.queue] if self.queue.waits() else []

    def is_over(self) -> bool:
        return not self.ready() and not self.queue.is_disowned()

    def settle(self, queue: TrialQueue) -> None:
        self.settled += 1

    def hear(self, queue: TrialQueue, worker: int | None, event: Event) -> None:
        self.events.append(event)

    def fail(self, queue: TrialQueue | None, error: Exception) -> None:
        self.errors.append(error)

    def tick(self) -> None:
        pass

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Scene:
    """A study of some cells, and what is needed to supervise it."""

    queue: TrialQueue
    tracker: MemoryTracker
    stores: Stores

    def supervise(
        self, launcher: StandIn, sharing: Sharing | None = None, policy: Noted | None = None
    ) -> Noted:
        policy = policy or Noted(self.queue)
        sharing = sharing or Sharing(launcher.devices())
        Supervisor(launcher, sharing, self.stores, self.tracker, policy).run()
        return policy

    @property
    def states(self) -> list[str]:
        return [record.trial.state.name for record in self.queue.newest().values()]


@pytest.fixture
def scene(url: str) -> Callable[..., Scene]:
    def make(cells: int = 4, more: str = "") -> Scene:
        rates = ", ".join(f"0.0{number}" for number in range(1, cells + 1))
        text = f"name: s\nbase: {{dataset: digits, width: 4, depth: 1, epochs: 1}}\ngrid: {{lr: [{rates}]}}\n{more}"
        grid, tracker = parse_grid(text, "s.yaml"), MemoryTracker()
        stores = Stores(storage=url)
        storage = open_storage(stores.storage)
        return Scene(submit(grid, feasible_cells(grid), storage, tracker).queue, tracker, stores)

    return make


TWO = (Device("2", 24 * GB), Device("GPU-6e3b", 24 * GB))
FIRST, SECOND = (device.name for device in TWO)


def test_one_worker_for_each_seat_until_it_is_over(scene: Callable[..., Scene]) -> None:
    study = scene(5)
    launcher = StandIn(study.queue, TWO)
    policy = study.supervise(launcher)
    assert study.states == ["COMPLETE"] * 5
    assert launcher.seats == [(FIRST, 1), (SECOND, 1)]
    assert all(worker.settings.alone and not worker.settings.only_alone for worker in launcher.workers)
    assert [len(policy.of(kind)) for kind in (TrialStarted, TrialEnded)] == [5, 5]
    assert policy.settled >= 1
    assert policy.errors == []


def test_no_more_workers_than_trials(scene: Callable[..., Scene]) -> None:
    study = scene(1)
    launcher = StandIn(study.queue, TWO)
    study.supervise(launcher)
    assert len(launcher.workers) == 1


def test_a_replaced_worker_gets_the_seat_that_became_free(scene: Callable[..., Scene]) -> None:
    study = scene(4)

    def die_on_the_second(worker: Worker, claim: Claim) -> Iterator[Event]:
        if worker.seat.device.name == SECOND and len(launcher.workers) < 4:
            raise Killed
        yield from train(worker, claim)

    launcher = StandIn(study.queue, TWO, die_on_the_second)
    policy = study.supervise(launcher)
    assert launcher.seats == [(FIRST, 1), (SECOND, 1), (SECOND, 1), (SECOND, 1)]
    died = policy.of(WorkerDied)
    assert [event.why for event in died if isinstance(event, WorkerDied)] == [
        "its process was ended by SIGKILL"
    ] * 2
    assert study.states == ["COMPLETE"] * 4


def test_a_trial_that_always_kills_its_worker_is_given_up_with_the_reason(
    scene: Callable[..., Scene],
) -> None:
    study = scene(2, "max_retries: 1")

    def die_over_the_first(worker: Worker, claim: Claim) -> Iterator[Event]:
        if claim.label == "lr=0.01":
            raise Killed
        yield from train(worker, claim)

    policy = study.supervise(StandIn(study.queue, TWO[:1], die_over_the_first))
    assert sorted(study.states) == ["COMPLETE", "FAIL"]
    (failed,) = (event for event in policy.of(TrialEnded) if event.outcome == "failed")
    assert failed.error == (
        "its process died every time it was tried (2 times), the last time by SIGKILL, which the kernel sends "
        "when memory runs out"
    )


def test_workers_that_never_begin_a_trial_are_not_started_for_ever(scene: Callable[..., Scene]) -> None:
    study = scene(2)

    class Deadly(StandIn):
        def start(self, settings: WorkerSettings, seat: Seat) -> int:
            number = super().start(settings, seat)
            self.living[number] = self.dying()
            return number

        def dying(self) -> Iterator[Event]:
            raise Killed
            yield

    launcher = Deadly(study.queue, TWO[:1])
    policy = study.supervise(launcher)
    (error,) = policy.errors
    assert isinstance(error, StudyError)
    assert "A worker ended with exit code -9 before it began a trial; if it said why" in str(error)
    assert len(launcher.workers) == 10


def test_what_a_broken_worker_raised_is_told(scene: Callable[..., Scene]) -> None:
    study = scene(2)

    class Broken(StandIn):
        def start(self, settings: WorkerSettings, seat: Seat) -> int:
            number = super().start(settings, seat)
            self.living[number] = iter(1 // each for each in [0])  # type: ignore[assignment]
            return number

    launcher = Broken(study.queue, TWO[:1])
    policy = study.supervise(launcher)
    assert [str(error) for error in policy.errors] == [
        "A worker could not begin a trial: ZeroDivisionError: integer division or modulo by zero"
    ]
    assert len(launcher.workers) == 1


def test_workers_are_stopped_and_their_trials_returned(scene: Callable[..., Scene]) -> None:
    study = scene(4)
    launcher = StandIn(study.queue, TWO)
    policy = Noted(study.queue, enough=lambda events: len(events) >= 2)
    study.supervise(launcher, policy=policy)
    assert len(launcher) == 0
    assert study.states == ["WAITING"] * 4
    assert [event.outcome for event in policy.of(TrialEnded) if isinstance(event, TrialEnded)] == [
        "killed"
    ] * 2


def test_workers_that_do_not_stop_in_time_are_killed(scene: Callable[..., Scene]) -> None:
    study = scene(2)

    def hang(worker: Worker, claim: Claim) -> Iterator[Event]:
        while True:
            yield WorkerFailed("it hangs")

    launcher = StandIn(study.queue, TWO, hang)
    policy = Noted(study.queue, stop_seconds=0.1, enough=lambda events: len(events) >= 4)
    study.supervise(launcher, policy=policy)
    assert len(launcher) == 0
    assert study.states == ["WAITING"] * 2


def test_a_study_that_was_deleted_keeps_no_other_from_getting_its_trials_back(
    scene: Callable[..., Scene],
) -> None:
    study = scene(1)
    deleted, _ = open_study(study.queue.storage, "deleted", ["maximize"])
    study.queue.storage.delete_study(deleted.study_id)
    launcher = StandIn(study.queue, TWO)
    policy = Noted(study.queue)
    supervisor = Supervisor(launcher, Sharing(launcher.devices()), study.stores, study.tracker, policy)
    supervisor._staffed = {"deleted": deleted, "s": study.queue}
    assert study.queue.claim() is not None
    supervisor._kill()
    assert study.states == ["WAITING"]
    assert [type(error) for error in policy.errors] == [DeletedError]


def test_an_error_in_a_callback_leaves_no_worker(scene: Callable[..., Scene]) -> None:
    study = scene(2)

    class Raising(Noted):
        def tick(self) -> None:
            raise KeyboardInterrupt("in a callback")

    launcher = StandIn(study.queue, TWO)
    with pytest.raises(KeyboardInterrupt, match="in a callback"):
        study.supervise(launcher, policy=Raising(study.queue))
    assert len(launcher.workers) == 2
    assert len(launcher) == 0
    assert study.states == ["WAITING"] * 2


def test_seats_are_counted_from_the_memory_that_the_study_says(scene: Callable[..., Scene]) -> None:
    study = scene(6, "gpu_memory: 9GB")
    launcher = StandIn(study.queue, TWO)
    study.supervise(launcher)
    assert launcher.most == 4
    assert not any(worker.settings.alone for worker in launcher.workers)


def test_a_study_that_no_gpu_is_large_enough_for(scene: Callable[..., Scene]) -> None:
    study = scene(2, "gpu_memory: 40GB")
    launcher = StandIn(study.queue, TWO)
    policy = study.supervise(launcher)
    (error,) = policy.errors
    assert isinstance(error, ResourceError)
    assert "a trial needs 40 GB, but GPU 2 has 24 GB, GPU GPU-6e3b has 24 GB" in str(error)
    assert launcher.workers == []


def out_of_memory(label: str) -> Play:
    """Return what workers do of which one's trial has too little memory unless it has its GPU to itself."""

    def play(worker: Worker, claim: Claim) -> Iterator[Event]:
        if claim.label == label and not worker.settings.alone:
            worker.queue.put_back(claim.trial_id, alone=True)
            yield TrialEnded(claim.number, claim.label, "killed", error="out of memory")
            return
        yield from train(worker, claim)

    return play


def test_a_trial_out_of_memory_is_retried_with_a_gpu_to_itself_and_then_it_is_shared_again(
    scene: Callable[..., Scene],
) -> None:
    study = scene(9)

    def slow(worker: Worker, claim: Claim) -> Iterator[Event]:
        yield from ([] if claim.label == "lr=0.02" else [None] * 3)  # type: ignore[misc]
        yield from out_of_memory("lr=0.02")(worker, claim)

    launcher = StandIn(study.queue, TWO[:1], slow)
    policy = study.supervise(launcher, Sharing(TWO[:1], per_gpu=3))
    assert study.states == ["COMPLETE"] * 9
    assert policy.errors == []
    assert launcher.seats[:4] == [(FIRST, Fraction(1, 3))] * 3 + [(FIRST, 1)]
    whole = launcher.workers[3]
    assert whole.settings.only_alone
    assert whole.settings.alone
    assert launcher.seats[4:7] == [(FIRST, Fraction(1, 3))] * 3
    assert [seat for seat in launcher.seats if seat[1] == 1] == [(FIRST, 1)]


def test_only_one_of_several_gpus_is_emptied(scene: Callable[..., Scene]) -> None:
    study = scene(9)

    def slow(worker: Worker, claim: Claim) -> Iterator[Event]:
        yield from ([] if claim.label == "lr=0.01" else [None] * 20)  # type: ignore[misc]
        yield from out_of_memory("lr=0.01")(worker, claim)

    launcher = StandIn(study.queue, TWO, slow)
    study.supervise(launcher, Sharing(TWO, per_gpu=2))
    assert study.states == ["COMPLETE"] * 9
    stopped = {worker.seat.device.name for worker in launcher.workers if worker.stopped}
    whole = [worker.seat.device.name for worker in launcher.workers if worker.settings.only_alone]
    assert len(whole) == 1
    assert stopped == set(whole)


def test_a_gpu_that_is_free_needs_no_emptying(scene: Callable[..., Scene]) -> None:
    study = scene(1)
    launcher = StandIn(study.queue, TWO, out_of_memory("lr=0.01"))
    study.supervise(launcher, Sharing(TWO, per_gpu=2))
    assert study.states == ["COMPLETE"]
    assert launcher.seats[0][1] == HALF
    assert launcher.seats[1][1] == 1
    assert not any(worker.stopped for worker in launcher.workers)


def test_without_a_gpu_every_worker_may_train_what_ran_out_of_memory_elsewhere(
    scene: Callable[..., Scene],
) -> None:
    study = scene(2)
    claim = study.queue.claim()
    assert claim is not None
    study.queue.put_back(claim.trial_id, alone=True)
    launcher = StandIn(study.queue, (Device("cpu", workers=2),))
    study.supervise(launcher)
    assert study.states == ["COMPLETE"] * 2


def die_twice(exited: Exited) -> Play:
    """Return what workers do of which the first two exit like this in the middle of their trial."""

    def play(worker: Worker, claim: Claim) -> Iterator[Event]:
        if worker.name in ("node0:1:1.00", "node1:2:1.00"):
            yield EpochEnded(claim.number, 1, {})
            raise Killed(exited)
        yield from train(worker, claim)

    return play


def test_a_worker_elsewhere_that_has_exited_is_requeued_at_once(scene: Callable[..., Scene]) -> None:
    study = scene(1)
    launcher = Elsewhere(study.queue, TWO[:1], die_twice(Exited(-9, "out of memory on node0")))
    journal = study.stores.journal_dir / "of a dead worker"
    journal.mkdir(parents=True)
    (journal / Lock.holder).write_text("another-machine node0:1:1.00")
    policy = study.supervise(launcher)
    assert not is_held_elsewhere(journal)
    assert [record.retries for record in study.queue.records()] == [0, 1, 2]
    assert study.states == ["COMPLETE"]
    assert [event.why for event in policy.of(WorkerDied) if isinstance(event, WorkerDied)] == [
        "out of memory on node0"
    ] * 2


def test_a_place_that_was_taken_away_is_no_try(scene: Callable[..., Scene]) -> None:
    study = scene(1, "max_retries: 0")
    launcher = Elsewhere(study.queue, TWO[:1], die_twice(Exited(-9, "preempted", blameless=True)))
    policy = study.supervise(launcher)
    (record,) = study.queue.records()
    assert (record.retries, record.was_put_back, study.states) == (0, True, ["COMPLETE"])
    died = policy.of(WorkerDied)
    assert died == [WorkerDied(0, "lr=0.01", "preempted", blameless=True)] * 2
    assert policy.errors == []


def test_a_trial_that_kills_its_workers_elsewhere_is_given_up_with_what_the_engine_says(
    scene: Callable[..., Scene],
) -> None:
    study = scene(1, "max_retries: 1")
    launcher = Elsewhere(study.queue, TWO[:1], die_twice(Exited(-9, "out of memory on node0")))
    policy = study.supervise(launcher)
    (failed,) = policy.of(TrialEnded)
    assert isinstance(failed, TrialEnded)
    assert failed.error == (
        "its process died every time it was tried (2 times), the last time: out of memory on node0"
    )


@pytest.mark.parametrize("blameless", [False, True])
def test_a_worker_that_its_engine_starts_again_lives_on(scene: Callable[..., Scene], blameless: bool) -> None:
    study = scene(1)

    def lose_the_node(worker: Worker, claim: Claim) -> Iterator[Event]:
        if worker.name == "node0:1:1.00":
            worker.name = "node7:7:1.00"  # a new process under the same number
            yield WorkerDied(-1, "", "its node is gone", blameless)
            return
        yield from train(worker, claim)

    launcher = Elsewhere(study.queue, TWO[:1], lose_the_node)
    policy = study.supervise(launcher)
    assert policy.of(WorkerDied) == [WorkerDied(0, "lr=0.01", "its node is gone", blameless)]
    assert study.states == ["COMPLETE"]
    assert [record.retries for record in study.queue.records()] == ([0] if blameless else [0, 1])


def test_workers_killed_elsewhere_return_their_trials(scene: Callable[..., Scene]) -> None:
    study = scene(2)

    def hang(worker: Worker, claim: Claim) -> Iterator[Event]:
        while True:
            yield EpochEnded(claim.number, 1, {})

    policy = Noted(study.queue, stop_seconds=0.1, enough=lambda events: len(events) >= 4)
    study.supervise(Elsewhere(study.queue, TWO, hang), policy=policy)
    assert study.states == ["WAITING"] * 2
    assert [record.retries for record in study.queue.records()] == [0, 0]


def test_how_a_living_workers_process_ended_is_for_its_launcher_to_say(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_RESCUE_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "_LOOK_SECONDS", 0.0)
    study = scene(1)

    def die_before_it_is_told(worker: Worker, claim: Claim) -> Iterator[Event]:
        if worker is launcher.workers[0]:
            for _ in range(5):  # looks for dead workers
                yield EpochEnded(claim.number, 1, {})
            raise Killed(Exited(-9, "preempted", blameless=True))
        yield from train(worker, claim)

    class Here(StandIn):
        def start(self, settings: WorkerSettings, seat: Seat) -> int:
            number = super().start(settings, seat)
            self.workers[number].name = GONE if number == 0 else f"node{number}:1:1.00"
            return number

    launcher = Here(study.queue, TWO[:1], die_before_it_is_told)
    study.supervise(launcher)
    assert [record.retries for record in study.queue.records()] == [0]
    assert study.states == ["COMPLETE"]


def test_workers_that_wait_for_a_place_in_vain_are_stopped_newest_first(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_LOOK_SECONDS", 0.0)
    study, stopped = scene(3), list[int]()

    class Crowded(StandIn):
        """Has a place for one worker at a time."""

        def pending(self) -> Collection[int]:
            return sorted(self.living)[1:]

        def stop(self, worker: int | None = None) -> None:
            stopped.append(worker if worker is not None else -1)
            super().stop(worker)

        def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
            for number in [each for each in self.pending() if self.workers[each].stopped]:
                del self.living[number]
                yield number, Exited(0)
            here = {number: self.living.pop(number) for number in self.pending()}
            yield from super().listen(timeout)
            self.living.update(here)

    launcher = Crowded(study.queue, (Device("cpu", workers=3),))
    policy = study.supervise(launcher)
    assert study.states == ["COMPLETE"] * 3
    assert len(launcher.workers) == 3
    assert stopped == [2, 1]
    assert policy.errors == []


def test_an_engine_that_takes_workers_away_at_once_is_given_ever_longer_pauses(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_REST", 0.05)
    monkeypatch.setattr(supervisor, "_LOOK_SECONDS", 0.0)
    study, started = scene(1), list[float]()

    class Busy(Elsewhere):
        def start(self, settings: WorkerSettings, seat: Seat) -> int:
            started.append(time.monotonic())
            return super().start(settings, seat)

    def taken(worker: Worker, claim: Claim) -> Iterator[Event]:
        if len(started) < 5:
            raise Killed(Exited(0, blameless=True))
        yield from train(worker, claim)

    launcher = Busy(study.queue, TWO[:1], taken)
    assert study.supervise(launcher).errors == []
    pauses = [later - earlier for earlier, later in pairwise(started)]
    assert all(pause >= 0.05 * 2**number for number, pause in enumerate(pauses))
    assert len(pauses) == 4


class Refusing(StandIn):
    """A launcher whose engine does not answer the first time that it is asked for anything."""

    refused: str = ""

    def refuse(self, what: str) -> None:
        if what == self.refuses and what not in self.refused:
            self.refused = what
            raise ResourceError(f"the engine refuses to {what}")

    refuses = ""

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        self.refuse("start")
        return super().start(settings, seat)

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        yield from super().listen(timeout)
        if any(worker.queue.records(TrialState.RUNNING) for worker in self.workers):
            self.refuse("listen")

    def stop(self, worker: int | None = None) -> None:
        self.refuse("stop")
        super().stop(worker)


@pytest.mark.parametrize("refuses", ["start", "listen"])
def test_a_service_goes_on_when_its_engine_answers_again(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0.05)

    class Patient(Noted):
        def should_stop(self) -> bool:
            return False

    study = scene(2)
    launcher = Refusing(study.queue, TWO[:1])
    launcher.refuses = refuses
    policy = study.supervise(launcher, policy=Patient(study.queue))
    assert [str(error) for error in policy.errors] == [f"the engine refuses to {refuses}"]
    assert study.states == ["COMPLETE"] * 2


@pytest.mark.parametrize("refuses", ["start", "listen", "stop"])
def test_a_sweep_whose_engine_refuses_ends_in_order(scene: Callable[..., Scene], refuses: str) -> None:
    study = scene(2)

    def slow(worker: Worker, claim: Claim) -> Iterator[Event]:
        yield EpochEnded(claim.number, 1, {})
        yield from train(worker, claim)

    launcher = Refusing(study.queue, TWO[:1], slow)
    launcher.refuses = refuses
    policy = study.supervise(launcher, policy=Noted(study.queue, enough=lambda events: len(events) >= 1))
    assert [str(error) for error in policy.errors] == [f"the engine refuses to {refuses}"]
    assert len(launcher) == 0
    assert "RUNNING" not in study.states
