"""Every kind of write as a value: through a journal's JSON and back, twice, and merged."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import TrackingError
from lab.tracking import MemoryTracker, RunStatus
from lab.tracking.base import Metric
from lab.tracking.memory import MemoryRun
from lab.tracking.writes import (
    WRITES,
    Dataset,
    Delete,
    End,
    File,
    Metrics,
    Model,
    Open,
    Origin,
    Params,
    RemoveTags,
    Tags,
    Unknown,
    Write,
    merged,
    read_write,
)

words = st.text(max_size=8)
names = st.sampled_from(["lr", "loss", "größe", "a b"])
values = st.floats(allow_nan=True, allow_infinity=True)
texts = st.dictionaries(names, words, max_size=3)
times = st.none() | st.integers(0, 2**43)
paths = st.sampled_from(["note.txt", "deep/er/größe.bin"])
metrics = st.builds(Metric, names, values, st.integers(0, 5), st.integers(0, 2**43))
contents = st.binary(max_size=20)


def saves(content: bytes) -> Model:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.pt2").write_bytes(content)

    return Model(save)


KINDS: dict[str, st.SearchStrategy[Any]] = {
    "open": st.builds(Open, words, words, texts, st.none() | words, st.none() | words, times),
    "params": st.builds(Params, texts),
    "metrics": st.builds(Metrics, st.lists(metrics, max_size=5).map(tuple)),
    "tags": st.builds(Tags, texts),
    "untag": st.builds(RemoveTags, st.lists(names, max_size=2).map(tuple)),
    "file": st.builds(File, paths, contents, st.booleans()),
    "delete": st.builds(Delete, paths),
    "dataset": st.builds(
        Dataset,
        name=words,
        digest=words,
        source=words,
        shape=st.lists(st.integers(1, 9), max_size=3).map(tuple),
        classes=st.lists(words, max_size=3).map(tuple),
        images=st.dictionaries(words, st.integers(0, 9), max_size=2),
        context=words,
    ),
    "model": st.builds(saves, contents),
    "origin": st.builds(Origin, words),
    "end": st.builds(End, st.sampled_from(RunStatus), times),
}
puts = st.one_of(*(strategy for kind, strategy in KINDS.items() if kind != "open"))
batched = st.one_of(*(strategy for kind, strategy in KINDS.items() if WRITES[kind].is_mergeable))


def through_a_journal(write: Write, folder: Path) -> Write:
    """Return what is read of a write that was kept as JSON and a file."""
    file = None
    if write.has_file:
        file = folder / write.file_name
        write.save(file)
    return read_write(write.kind, json.loads(json.dumps(write.payload())), file)


def as_text(write: Write, folder: Path) -> str:
    """Return all of a write, its file too; NaN is as good as NaN."""
    content = {}
    if write.has_file:
        place = folder / "copy"
        write.save(place)
        files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
        content = {str(file.relative_to(folder)): file.read_bytes().hex() for file in files}
    return json.dumps([write.kind, write.replaces, write.payload(), content], sort_keys=True)


def stored(writes: Sequence[Write], *, reopened: bool = False) -> str:
    """Return what a run in memory has after `writes`, but for its id and the times of day."""
    tracker = MemoryTracker()
    run = open_run(tracker)
    for write in writes:
        run.write(write)
        if reopened:
            run = tracker.attach(run.run_id)
    (found,) = tracker._runs.values()
    kept = {"points": found.points, "params": found.params, "tags": found.tags, "data": found.datasets}
    return repr((kept, found.artifacts, found.status))


def open_run(tracker: MemoryTracker) -> MemoryRun:
    return tracker.open_run(name="x", experiment=tracker.experiment("x"), tags={"gone": "soon"})


def test_every_kind_is_tried_here() -> None:
    assert KINDS.keys() == WRITES.keys()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_journal_gives_back_what_it_was_given(kind: str, data: st.DataObject) -> None:
    write = data.draw(KINDS[kind])
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        again = through_a_journal(write, Path(one))
        assert type(again) is type(write) is WRITES[kind]
        assert as_text(again, Path(one)) == as_text(write, Path(other))


@given(st.lists(puts, max_size=4))
def test_what_is_put_twice_is_put_once(writes: list[Write]) -> None:
    twice = [each for write in writes for each in (write, write)]
    assert stored(twice) == stored(writes)


@pytest.mark.parametrize("kind", [kind for kind, write in WRITES.items() if write.is_mergeable])
@given(data=st.data())
def test_merged_writes_do_what_single_ones_do(kind: str, data: st.DataObject) -> None:
    writes = data.draw(st.lists(KINDS[kind], min_size=1, max_size=4))
    assert stored([merged(writes)]) == stored(writes)


@given(st.lists(batched, min_size=1, max_size=6))
def test_writes_of_several_kinds_merged_do_what_single_ones_do(writes: list[Write]) -> None:
    assert stored([merged(writes)]) == stored(writes)


@given(st.lists(metrics, max_size=5), st.lists(metrics, max_size=5))
def test_a_reopened_run_keeps_its_curves_and_takes_new_facts(
    first: list[Metric], second: list[Metric]
) -> None:
    tracker = MemoryTracker()
    run = open_run(tracker)
    run.write(Metrics(first))
    before = {name: tracker.history(run.run_id, name) for name in {each.name for each in first}}
    tracker.attach(run.run_id).write(Metrics(second))
    for name, steps in before.items():
        after = tracker.history(run.run_id, name)
        kept = steps if any(steps) else {}  # without steps it is a fact, which may change
        assert {step: repr(after[step]) for step in kept} == {step: repr(kept[step]) for step in kept}


def test_a_lost_attempt_changes_no_fact() -> None:
    tracker = MemoryTracker()
    run = open_run(tracker)
    run.log_metrics({"best_value": 0.9})
    run.log_metrics({"loss": 0.5}, step=2)
    late = [Metric("best_value", 0.1, 0, 1), Metric("loss", 0.7, 1, 1), Metric("loss", 0.7, 2, 1)]
    tracker.attach(run.run_id).write(Metrics(late, only_missing=True))
    assert tracker.history(run.run_id, "best_value") == {0: 0.9}
    assert tracker.history(run.run_id, "loss") == {1: 0.7, 2: 0.5}


@pytest.mark.parametrize(("kind", "payload"), [("telepathy", {"to": "all"}), ("model", {}), ("file", {})])
def test_what_another_version_wrote_is_refused_in_words(kind: str, payload: dict[str, Any]) -> None:
    write = read_write(kind, payload)
    assert isinstance(write, Unknown)
    with pytest.raises(TrackingError, match=f"operation '{kind}', which this version of lab does not know"):
        open_run(MemoryTracker()).write(write)


def test_pending_ids_are_resolved_where_they_are_known() -> None:
    known = {"pending-a": "id-a"}.get
    assert Origin("pending-a").resolved(known) == Origin("id-a")
    assert Origin("pending-b").resolved(known) == Origin("pending-b")
    assert Open("n", "e", {}, "pending-a").resolved(known).parent_run_id == "id-a"
    assert Open("n", "e", {}).resolved(known).parent_run_id is None
    assert Tags({"a": "b"}).resolved(known) == Tags({"a": "b"})
