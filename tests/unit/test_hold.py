"""A trial that was given to another while its worker slept: the clocks that tell, and all that is left as it is."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lab.objective.trial
from lab.config import TrialConfig
from lab.errors import StudyError
from lab.hold import Hold, Lost, Stopwatch
from lab.objective import Placement, train
from lab.tracking import JournaledTracker, MemoryTracker, RunStatus, UnavailableError
from lab.tracking.checkpoints import TrialCheckpoints, Uploader
from lab.tracking.courier import Courier
from lab.tracking.memory import MemoryRun

FRESH = 15.0
TINY: dict[str, Any] = {
    "dataset": "synthetic",
    "image_size": 8,
    "depth": 1,
    "width": 4,
    "batch_size": 256,
    "epochs": 3,
    "lr": 0.01,
    "threads": 1,
    "patience": None,
}


@dataclass
class World:
    """Two clocks, and a database that knows whose the trial is."""

    wall: float = 1e9
    monotonic: float = 100.0
    mine: bool = True
    away: bool = False
    asked: int = 0
    clocks: tuple[Callable[[], float], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.clocks = (lambda: self.monotonic, lambda: self.wall)

    def ask(self) -> bool:
        self.asked += 1
        if self.away:
            raise StudyError("no answer")
        return self.mine

    def hold(self) -> Hold:
        return Hold(self.ask, fresh=FRESH, clocks=self.clocks)


@pytest.fixture
def world() -> World:
    return World()


def test_a_fresh_answer_is_good_for_a_heartbeat(world: World) -> None:
    hold = world.hold()
    for _ in range(10):
        world.wall, world.monotonic = world.wall + 1, world.monotonic + 1
        hold.confirm()
    assert world.asked == 0
    world.wall, world.monotonic = world.wall + 6, world.monotonic + 6
    hold.confirm()
    hold.confirm()
    assert world.asked == 1
    hold.confirm(anew=True)
    assert world.asked == 2


@pytest.mark.parametrize(
    ("wall", "monotonic"),
    [(95.0, 0.0), (95.0, 95.0), (0.0, 95.0), (-3600.0, 95.0)],
    ids=[
        "the monotonic clock slept",
        "a stopped process",
        "the wall clock slept",
        "the wall clock was set back",
    ],
)
def test_after_a_pause_on_any_clock_it_asks_and_is_lost_for_good(
    world: World, wall: float, monotonic: float
) -> None:
    hold = world.hold()
    world.mine = False
    assert not hold.is_lost()
    world.wall, world.monotonic = world.wall + wall, world.monotonic + monotonic
    with pytest.raises(Lost, match="another worker has taken over this trial"):
        hold.confirm()
    world.mine = True  # of the same name, claimed anew: not this attempt's
    assert hold.is_lost(anew=True)


def test_a_trial_given_back_while_it_was_asked_about_is_not_lost() -> None:
    def given_back() -> bool:
        hold.settle()
        return False

    hold = Hold(given_back)
    assert not hold.is_lost(anew=True)
    assert not hold.is_lost(anew=True)


def test_a_clock_set_back_does_not_hide_a_later_pause(world: World) -> None:
    hold = world.hold()
    world.wall -= 3600
    world.monotonic += 16
    hold.confirm()
    assert world.asked == 1
    world.mine = False
    world.wall += 16  # and now the other one stands still
    assert hold.is_lost()


def test_a_clock_set_forward_costs_one_question(world: World) -> None:
    hold = world.hold()
    world.wall += 3600
    for _ in range(5):
        hold.confirm()
    assert world.asked == 1


def test_without_an_answer_nothing_changes_and_not_every_step_asks(world: World) -> None:
    hold = world.hold()
    world.away, world.mine = True, False
    world.wall, world.monotonic = world.wall + 95, world.monotonic + 95
    for _ in range(5):
        hold.confirm()
    assert (world.asked, hold.is_certain) == (1, False)
    world.away = False
    world.monotonic += 3
    assert hold.is_lost()


def test_a_stopwatch_goes_by_the_clock_that_says_most(world: World) -> None:
    watch = Stopwatch(world.clocks)
    world.wall += 5
    world.monotonic += 2
    assert watch.seconds == 5
    watch.restart()
    assert watch.seconds == 0


def die_at(owner: Any, name: str, fall_asleep: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(owner, name)

    def sleepy(*args: Any, **options: Any) -> Any:
        fall_asleep()
        return real(*args, **options)

    monkeypatch.setattr(owner, name, sleepy)


MOMENTS: dict[str, tuple[Any, str]] = {
    "before it is described": (lab.objective.trial, "log_description"),
    "before a checkpoint": (TrialCheckpoints, "save"),
    "before points": (MemoryRun, "log_history"),
    "before an upload": (MemoryRun, "log_file"),
    "before its result": (lab.objective.trial, "log_result"),
    "before its model": (MemoryRun, "log_model"),
    "before its checkpoints are concluded": (TrialCheckpoints, "finish"),
    "before its end": (MemoryRun, "end"),
}


def files(folder: Path) -> dict[str, bytes]:
    # not those in the folders of uploads, which come and go in a thread
    return {str(file): file.read_bytes() for file in folder.glob("*/*.pt")}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("raises", [False, True], ids=["", "and something raises"])
def test_a_lost_attempt_leaves_everything_as_it_is(
    moment: str, raises: bool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Uploader, "pause", 0.0)
    tracker = MemoryTracker()
    found: list[Any] = []

    def everything() -> Any:
        with tracker._lock:  # the uploader's thread writes too
            stored = copy.deepcopy(next(iter(tracker._runs.values())))
        return stored, files(tmp_path)

    def fall_asleep() -> None:
        if not found:
            world.mine = False
            world.wall += 95
            found.append(everything())
            if raises:
                raise OSError("whoever has it now has deleted the folder")

    die_at(*MOMENTS[moment], fall_asleep, monkeypatch)
    with pytest.raises(Lost, match="another worker"):
        train(TrialConfig(**TINY), tracker, placement=Placement(checkpoint_dir=tmp_path), hold=world.hold())
    assert everything() == found[0]


def test_what_a_lost_attempt_has_in_its_journal_is_dropped(world: World, tmp_path: Path) -> None:
    store = MemoryTracker()
    sleeping = JournaledTracker(store, tmp_path / "sleeping")
    run = sleeping.open_run(name="t", experiment=sleeping.experiment("x"), tags={}, hold=world.hold())
    world.mine = False  # between two looks: the journal takes all, and its delivery asks
    with suppress(Lost):  # as soon as the delivery has asked
        run.log_metrics({"loss": 0.5}, step=3)
        run.log_text("old", "note.txt")
        run.set_tags({"lab.outcome": "failed"})
    assert not sleeping.flush(60)
    (kept,) = store._runs.values()
    assert (kept.points, kept.artifacts, kept.tags.get("lab.outcome")) == ({}, {}, None)
    world.wall += 95
    with pytest.raises(Lost, match="another worker"):
        run.log_metrics({"loss": 0.5}, step=4)


@pytest.mark.parametrize("passing", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_a_request_that_was_under_way_while_the_process_slept(
    ended: bool, passing: bool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is deleted at the end of a run is gone, even if it arrives later; any other stays."""
    store = MemoryTracker()
    sleeping, other = (JournaledTracker(store, tmp_path / name) for name in ("sleeping", "other"))
    run = sleeping.open_run(name="t", experiment=sleeping.experiment("x"), tags={}, hold=world.hold())
    sleeping._couriers.flush(time.monotonic() + 60)
    (run_id,) = store._runs
    real = MemoryRun.log_artifact

    def sleepy(self: MemoryRun, path: str, source: Path | bytes, *, table: bool = False) -> None:
        world.mine = False
        world.wall += 95
        again = other.open_run(name="t", experiment="", tags={}, run_id=run_id)
        if ended:
            again.end(RunStatus.FINISHED)
        assert not other.flush(60)
        real(store.attach(run_id), path, source, table=table)

    monkeypatch.setattr(MemoryRun, "log_artifact", sleepy)
    (tmp_path / "spare.pt").write_bytes(b"of an earlier epoch")
    run.log_file(tmp_path / "spare.pt", "checkpoints", passing=passing)
    assert not sleeping.flush(60)
    kept = store._runs[run_id]
    assert kept.status == ("FINISHED" if ended else "RUNNING")
    assert list(kept.artifacts) == ([] if ended and passing else ["checkpoints/spare.pt"])


class Restarting(MemoryTracker):
    """A store that does not answer once."""

    answers = True

    def tags(self, run_id: str) -> dict[str, str]:
        return self._answered(super().tags, run_id)

    def open_run(self, **about: Any) -> MemoryRun:
        return self._answered(super().open_run, **about)

    def _answered(self, answer: Callable[..., Any], *about: Any, **more: Any) -> Any:
        if not self.answers:
            self.answers = True
            raise UnavailableError("it restarts")
        return answer(*about, **more)


@pytest.mark.parametrize("hours", [-9, 9])
def test_a_machine_whose_clock_is_hours_off_continues_a_run(
    hours: int, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Courier, "first_pause", 0.01)
    store = Restarting()
    first, second = (JournaledTracker(store, tmp_path / name) for name in ("one", "two"))
    experiment = first.experiment("x")
    run = first.open_run(name="t", experiment=experiment, tags={}, hold=world.hold())
    run.log_metrics({"loss": 0.5}, step=1)
    assert not first.flush(60)
    there = time.time_ns() + hours * 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: there)
    store.answers = False  # while it is opened again, so that another may have opened it in the meantime
    again = second.open_run(name="t", experiment=experiment, tags={}, run_id=run.run_id, hold=world.hold())
    again.log_metrics({"loss": 0.25}, step=2)
    again.set_tags({"lab.outcome": "completed"})
    again.end(RunStatus.FINISHED)
    assert not second.flush(60)
    (kept,) = store._runs.values()
    assert (kept.status, kept.tags["lab.outcome"]) == ("FINISHED", "completed")
    assert kept.points["loss"] == {1: 0.5, 2: 0.25}


def test_a_study_that_no_longer_answers_does_not_vouch_for_an_attempt(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Courier, "first_pause", 0.01)
    store = Restarting()
    first, second = (JournaledTracker(store, tmp_path / name) for name in ("one", "two"))
    run = first.open_run(name="t", experiment=first.experiment("x"), tags={}, hold=Hold())
    assert not first.flush(60)

    def taken(run_id: str) -> dict[str, str]:  # by a later attempt, and then the database goes away
        world.away = True
        return {"lab.attempt": f"{time.time_ns() + 10**12:020d}-ab"}

    monkeypatch.setattr(store, "tags", taken)
    before = copy.deepcopy(store._runs[run.run_id])
    world.away, store.answers = True, False
    again = second.open_run(name="t", experiment="", tags={"late": "1"}, run_id=run.run_id, hold=world.hold())
    again.end(RunStatus.FAILED)
    assert not second.flush(60)
    assert store._runs[run.run_id] == before


def test_a_run_of_a_lost_attempt_that_the_store_never_saw_is_not_made(world: World, tmp_path: Path) -> None:
    store = MemoryTracker()
    sleeping = JournaledTracker(store, tmp_path / "sleeping")
    experiment = sleeping.experiment("x")
    hold = world.hold()
    world.mine = False
    run = sleeping.open_run(name="t", experiment=experiment, tags={}, hold=hold)
    run.leave()
    assert not sleeping.flush(60)
    assert not store._runs
    assert not list((tmp_path / "sleeping").glob("*/journal.db"))
