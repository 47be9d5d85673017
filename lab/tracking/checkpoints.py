"""A trial's checkpoints: after every epoch on local disk, a little later in its run's artifacts.

From the artifacts another machine can continue the trial. Training never waits for them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from lab.errors import LabWarning, TrackingError
from lab.hold import Hold
from lab.tracking.base import Tracker
from lab.tracking.run import Run
from lab.training import CorruptCheckpoint, FolderCheckpoints, load_checkpoint, save_checkpoint

__all__ = ["RunCheckpoints", "TrialCheckpoints", "Uploader"]

_FOLDER = "checkpoints"
# Written in turns, so that one of them is whole whatever ends the process; only `last.pt` stays with a run that ended.
_LAST, _SPARE = "last.pt", "spare.pt"


class RunCheckpoints:
    """Keeps a trial's checkpoints in its run's artifacts; a `CheckpointStore`.

    Args:
        tracker: where the run is.
        run: of the trial.
        empty: whether the run has none yet, so that there is nothing to look for.
    """

    def __init__(self, tracker: Tracker, run: Run, *, empty: bool = False) -> None:
        self._tracker = tracker
        self._run = run
        self._known = empty  # whether `_newest` says what is there
        self._newest: str | None = None
        self._alone = empty  # whether there is no spare one

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`, and of those before it only the newest: see `CheckpointStore.save`."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, _LAST)
            save_checkpoint(state, file)
            self.add(file)

    def add(self, file: Path) -> None:
        """Keep the checkpoint in `file`, as `save` does with a state.

        Raises:
            TrackingError: the store fails; the newest that was there is still whole.
        """
        if not self._known:
            for _ in self.load(lambda _: None):
                pass
        place = _SPARE if self._newest == _LAST else _LAST
        self._alone = self._alone and place == _LAST
        self._log(file, place)
        self._newest = place

    def load(self, damaged: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the whole ones, newest first: see `CheckpointStore.load`.

        Raises:
            TrackingError: the store fails.
        """
        whole: list[tuple[tuple[int, int], str, dict[str, Any]]] = []
        with tempfile.TemporaryDirectory() as folder:
            for place in (_LAST, _SPARE):
                file = self._tracker.download(self._run.run_id, f"{_FOLDER}/{place}", Path(folder))
                if file is None:
                    continue
                try:
                    state = load_checkpoint(file)
                except CorruptCheckpoint as error:
                    damaged(str(error).replace(str(file), f"the run's {_FOLDER}/{place}"))
                else:
                    whole.append((_progress(state), place, state))
        whole.sort(key=lambda each: each[0], reverse=True)  # of two that are as far `last.pt` stays first
        self._known, self._newest = True, whole[0][1] if whole else None
        yield from (state for _, _, state in whole)

    def conclude(self, file: Path) -> None:
        """Leave nothing but the checkpoint in `file`, as `last.pt`.

        Raises:
            TrackingError: the store fails.
        """
        if file.name == _LAST:
            self._run.log_file(file, _FOLDER)
        else:
            self._log(file, _LAST)
        self._newest = _LAST
        if not self._alone:
            with suppress(
                TrackingError
            ):  # a store may not allow it; by its epoch it is known to be the older
                self._run.delete_file(f"{_FOLDER}/{_SPARE}")

    def _log(self, file: Path, place: str) -> None:
        """Store what is in `file` now, whatever replaces it meanwhile, as `place`."""
        # a folder of its own: another process may continue the trial from the same one
        with tempfile.TemporaryDirectory(
            prefix="upload-", dir=file.parent, ignore_cleanup_errors=True
        ) as folder:
            copy = Path(folder, place)
            try:
                os.link(file, copy)
            except OSError:  # no links on this file system
                shutil.copyfile(file, copy)
            self._run.log_file(copy, _FOLDER)


def _progress(state: dict[str, Any]) -> tuple[int, int]:
    """Return the epochs done and the steps of the next one."""
    epoch, step = state.get("epoch"), state.get("step")
    return epoch if isinstance(epoch, int) else 0, step if isinstance(step, int) else 0


class Uploader:
    """Copies the newest local checkpoint to the run's artifacts, from a thread of its own.

    What is copied is one epoch old at most, while an epoch takes longer than a second and than its copying: of the
    checkpoints written meanwhile the thread takes the last. A failure is a warning, once.

    Args:
        source: whose newest one is copied.
        store: to copy it to.
        hold: on the trial.
    """

    # Seconds from the beginning of a trial, or of one upload, to the next: copying each of many short epochs would
    # cost more than they do.
    pause: ClassVar[float] = 1.0

    def __init__(self, source: FolderCheckpoints, store: RunCheckpoints, hold: Hold | None = None) -> None:
        self._source = source
        self._store = store
        self._hold = hold or Hold()
        self._due = time.monotonic() + self.pause
        self._offered = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._warned = False

    def offer(self) -> None:
        """Say that there is a newer one; returns at once."""
        self._offered.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoint upload", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for the upload under way, and begin no other."""
        self._closed.set()
        self._offered.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while self._offered.wait() and not self._closed.wait(max(0.0, self._due - time.monotonic())):
            self._offered.clear()
            self._due = time.monotonic() + self.pause
            self._upload()

    def _upload(self) -> None:
        try:
            newest = self._source.newest
            if newest is not None:
                self._store.add(newest)
        except FileNotFoundError:  # replaced in just this moment: the newer one is offered next
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the trial
            if not self._warned and not self._hold.is_lost():  # else the trial ends itself
                self._warned = True
                warnings.warn(
                    f"The checkpoint cannot be copied to the run's artifacts: {error} Until then, only this"
                    " machine can continue the trial",
                    LabWarning,
                    stacklevel=2,
                )


class TrialCheckpoints:
    """All checkpoints of one trial; a `CheckpointStore`.

    Args:
        folder: on local disk, of this trial alone.
        tracker: where its run is.
        run: that the newest are copied to.
        fresh: whether the run is new, so that it has none.
        hold: on the trial.
    """

    def __init__(
        self, folder: Path, tracker: Tracker, run: Run, *, fresh: bool, hold: Hold | None = None
    ) -> None:
        self._hold = hold or Hold()
        self.local = FolderCheckpoints(folder, self._hold)
        self.remote = RunCheckpoints(tracker, run, empty=fresh)
        self._run = run
        self._uploader = Uploader(self.local, self.remote, self._hold)

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state` on local disk, and have it copied to the run soon: see `CheckpointStore.save`."""
        self.local.save(state)
        self._uploader.offer()

    def load(self, damaged: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the whole ones of local disk, newest first, then those of the run: see `CheckpointStore.load`."""
        yield from self.local.load(damaged)
        yield from self.remote.load(damaged)

    def finish(self, weights: dict[str, Any]) -> None:
        """Leave the last checkpoint and the best weights in the run's artifacts, and nothing on local disk.

        Args:
            weights: the best ones, a state dict.

        Raises:
            LabError: the disk or the store fails.
            Lost: the trial is somebody else's.
        """
        self.stop()
        best = self.local.folder / "best.pt"
        save_checkpoint(weights, best)
        self._run.log_file(best, _FOLDER)
        self._hold.confirm(anew=True)
        shutil.rmtree(self.local.folder)

    def stop(self) -> None:
        """Have the last checkpoint in the run's artifacts, so that any machine can continue the trial.

        Raises:
            TrackingError: the store fails.
        """
        self._uploader.close()
        self._hold.confirm(anew=True)
        newest = self.local.newest
        if newest is not None:  # as it is where no epoch was finished
            self.remote.conclude(newest)

    def leave(self) -> None:
        """Leave all of them as they are, as the trial is somebody else's."""
        self._uploader.close()
