"""The lock of a journal in a folder that several machines share, where none sees the file locks of another."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.errors import ResourceError
from lab.tracking import MemoryTracker, deliver, release_journals
from lab.tracking import lock as locks
from lab.tracking.journal import RunJournal, try_out
from lab.tracking.journals import find, journals, left
from lab.tracking.lock import Lock, is_held_elsewhere
from lab.tracking.writes import Tags

On = Callable[[str], None]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> On:
    """Makes this process one of another machine, which sees no file locks of others."""
    taken: dict[str, set[tuple[int, int]]] = {}

    def move(machine: str) -> None:
        own = taken.setdefault(machine, set())

        def lock_here(descriptor: int, *, blocking: bool) -> bool:
            found = os.fstat(descriptor)
            place = (found.st_dev, found.st_ino)
            if place in own:
                return False
            own.add(place)
            return True

        monkeypatch.setattr(locks, "machine", lambda: machine)
        monkeypatch.setattr(locks, "process_name", lambda: f"{machine}:1:1.00")
        monkeypatch.setattr(locks, "lock_descriptor", lock_here)

    return move


def written(folder: Path) -> RunJournal:
    journal = RunJournal.create(folder, store="http://s", run_id="r1")
    assert journal is not None
    journal.add(Tags({"a": "1"}))
    return journal


def fall_silent(folder: Path) -> None:
    before = time.time() - 3600
    os.utime(folder / Lock.holder, (before, before))


def test_a_full_disk_is_told_and_leaves_a_journal_to_whoever_comes_next(tmp_path: Path) -> None:
    store = MemoryTracker()
    left_over = RunJournal.create(tmp_path / "journal" / "a", store=store.uri)
    assert left_over is not None
    left_over.add(Tags({"a": "1"}))
    left_over.close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(
            ResourceError, match=r"The journal in .* cannot be written \(.*Free space on that disk"
        ):
            deliver(store, tmp_path / "journal")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path / "journal", store.uri).writes == 1
    assert deliver(store, tmp_path / "journal").left.refused == 1  # there is no such run


def test_a_living_journal_of_another_machine_is_neither_taken_nor_read(tmp_path: Path, on: On) -> None:
    on("a")
    journal = written(tmp_path / "j")
    assert find(tmp_path, "r1", "http://s") == tmp_path / "j"
    on("b")
    assert is_held_elsewhere(tmp_path / "j")
    assert Lock.take(tmp_path / "j") is None
    assert RunJournal.create(tmp_path / "j") is None
    assert (journals(tmp_path), find(tmp_path, "r1", "http://s")) == ([], None)
    assert left(tmp_path, "http://s").writes == 0
    on("a")
    assert left(tmp_path, "http://s").writes == 1
    journal.close()


def test_a_holder_that_renews_its_lock_stays_the_holder(tmp_path: Path, on: On) -> None:
    on("a")
    folder = tmp_path / "j"
    folder.mkdir()
    lock = Lock.take(folder)
    assert lock is not None
    fall_silent(folder)
    lock.renew()
    on("b")
    assert Lock.take(folder) is None
    on("a")
    lock.release()
    on("b")
    assert Lock.take(folder) is not None


def test_a_silent_holders_journal_is_taken_by_exactly_one_machine(tmp_path: Path, on: On) -> None:
    on("a")
    journal = written(tmp_path / "j")
    fall_silent(tmp_path / "j")
    on("b")
    assert journals(tmp_path) == [tmp_path / "j"]
    taken = Lock.take(tmp_path / "j")
    assert taken is not None
    on("c")
    assert Lock.take(tmp_path / "j") is None
    on("a")
    journal._file_lock.release()  # woken up: what it had is another's
    on("c")
    assert Lock.take(tmp_path / "j") is None


def test_of_many_machines_that_find_it_silent_one_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = threading.local()  # each thread is a machine
    monkeypatch.setattr(locks, "machine", lambda: here.name)
    monkeypatch.setattr(locks, "process_name", lambda: f"{here.name}:1:1.00")
    monkeypatch.setattr(locks, "lock_descriptor", lambda descriptor, blocking: True)
    start = threading.Barrier(8)

    def take(number: int) -> bool:
        here.name = f"m{number}"
        start.wait()
        return Lock.take(folder) is not None

    folder = tmp_path / "j"
    folder.mkdir()
    for _ in range(50):
        (folder / Lock.holder).write_text("gone node:1:1.00")
        fall_silent(folder)
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, range(8))) == 1
    assert sorted(file.name for file in folder.iterdir()) == [Lock.holder, Lock.name]


def test_what_a_process_had_that_has_exited_is_given_to_others_at_once(tmp_path: Path, on: On) -> None:
    on("a")
    written(tmp_path / "j")
    on("b")
    release_journals(tmp_path, ["another:1:1.00"])
    assert Lock.take(tmp_path / "j") is None
    release_journals(tmp_path, ["a:1:1.00"])
    assert find(tmp_path, "r1", "http://s") == tmp_path / "j"
    again = RunJournal.create(tmp_path / "j")
    assert again is not None
    assert again.waiting() == 1
    again.close()


def test_nothing_is_left_of_an_empty_journal(tmp_path: Path) -> None:
    try_out(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks, "lock_descriptor", refuse)
    with pytest.raises(ResourceError, match=r"cannot be written \(Function not implemented\)"):
        try_out(tmp_path)
