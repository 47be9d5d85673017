"""The thread that copies checkpoints to a run ends when it is told to, whenever that is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lab.tracking import MemoryTracker
from lab.tracking.checkpoints import RunCheckpoints, Uploader
from lab.training import FolderCheckpoints


class ClosedWhileWaking(threading.Event):
    """An event just before whose clearing another thread closes the uploader."""

    uploader: Uploader

    def clear(self) -> None:
        self.uploader._closed.set()
        self.set()
        super().clear()


def test_an_uploader_that_is_closed_while_it_wakes_up_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Uploader, "pause", 0.0)
    tracker = MemoryTracker()
    run = tracker.open_run(name="", experiment=tracker.experiment("one"), tags={})
    uploader = Uploader(FolderCheckpoints(tmp_path), RunCheckpoints(tracker, run, empty=True))
    uploader._offered = event = ClosedWhileWaking()
    event.uploader = uploader
    uploader.offer()
    assert uploader._thread is not None
    uploader._thread.join(60.0)
    assert not uploader._thread.is_alive()
