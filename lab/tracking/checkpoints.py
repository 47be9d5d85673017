"""A trial's checkpoints: on local disk after every epoch, in its run's artifacts a little later.

Another machine can continue the trial from the artifacts. Training never waits for them.
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
_LAST = "last.pt"  # written when the trial ends or stops, so that nothing that was under way before can overwrite it
# Written in turns while it trains, so that one of them is intact however the process ends.
_SPARES = ("spare.pt", "spare2.pt")


class RunCheckpoints:
    """Keeps a trial's checkpoints in its run's artifacts; a `CheckpointStore`.

    Args:
        tracker: that has the run.
        run: of the trial.
        empty: whether the run is known to have none yet.
    """

    def __init__(self, tracker: Tracker, run: Run, *, empty: bool = False) -> None:
        self._tracker = tracker
        self._run = run
        self._known = empty  # whether `_newest` is up to date
        self._newest: str | None = None
        # spares that there may be: of a run that others had, any, as their last upload may still arrive
        self._spares: set[str] = set() if empty else set(_SPARES)

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`, and of the earlier ones only the newest: see `CheckpointStore.save`."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, _LAST)
            save_checkpoint(state, file)
            self.add(file)

    def add(self, file: Path) -> None:
        """Keep the checkpoint in `file`, as `save` does with a state.

        Raises:
            TrackingError: the store failed; the newest one there is still intact.
        """
        if not self._known:
            for _ in self.load(lambda _: None):
                pass
        place = _SPARES[self._newest == _SPARES[0]]
        self._spares.add(place)
        self._log(file, place)
        self._newest = place

    def load(self, damaged: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the intact ones, newest first: see `CheckpointStore.load`.

        Raises:
            TrackingError: the store failed.
        """
        whole: list[tuple[tuple[int, int], str, dict[str, Any]]] = []
        with tempfile.TemporaryDirectory() as folder:
            for place in (_LAST, *_SPARES):
                file = self._tracker.download(self._run.run_id, f"{_FOLDER}/{place}", Path(folder))
                if file is None:
                    continue
                try:
                    state = load_checkpoint(file)
                except CorruptCheckpoint as error:
                    damaged(str(error).replace(str(file), f"the run's {_FOLDER}/{place}"))
                else:
                    whole.append((_progress(state), place, state))
        whole.sort(key=lambda each: each[0], reverse=True)  # `last.pt` stays first if both are equally far
        self._known, self._newest = True, whole[0][1] if whole else None
        yield from (state for _, _, state in whole)

    def conclude(self, file: Path | None) -> None:
        """Keep only the checkpoint in `file`, as `last.pt`; without one, only the newest that there is.

        Raises:
            TrackingError: the store failed.
        """
        if file is None:
            self._keep_newest()
        elif file.name == _LAST:
            self._run.log_file(file, _FOLDER)
        else:
            self._log(file, _LAST)
        for place in sorted(self._spares):
            with suppress(TrackingError):  # a store may deny it; its epoch shows that it is the older one
                self._run.delete_file(f"{_FOLDER}/{place}")

    def _keep_newest(self) -> None:
        """Store the newest one as `last.pt`."""
        if self._known and self._newest in (None, _LAST):
            return
        newest = next(self.load(lambda _: None), None)
        if newest is not None and self._newest != _LAST:
            with tempfile.TemporaryDirectory() as folder:
                save_checkpoint(newest, Path(folder, _LAST))
                self._run.log_file(Path(folder, _LAST), _FOLDER)

    def _log(self, file: Path, place: str) -> None:
        """Store the present contents of `file` as `place`, even if the file is replaced in the meantime."""
        # a folder of its own: another process may continue the trial from the same one
        with tempfile.TemporaryDirectory(
            prefix="upload-", dir=file.parent, ignore_cleanup_errors=True
        ) as folder:
            copy = Path(folder, place)
            try:
                os.link(file, copy)
            except OSError:  # no links on this file system
                shutil.copyfile(file, copy)
            self._run.log_file(copy, _FOLDER, passing=place in _SPARES)


def _progress(state: dict[str, Any]) -> tuple[int, int]:
    """Return the epochs done and the steps of the next one."""
    epoch, step = state.get("epoch"), state.get("step")
    return epoch if isinstance(epoch, int) else 0, step if isinstance(step, int) else 0


class Uploader:
    """Copies the newest local checkpoint to the run's artifacts, from its own thread.

    The copy is at most one epoch old as long as an epoch takes longer than a second and than copying: of several new
    checkpoints the thread takes the last. Failures are reported once, as a warning.

    Args:
        source: of the checkpoint to copy.
        store: where to copy it.
        hold: on the trial.
    """

    # Seconds between the start of the trial or of an upload and the next one: copying after each of many short epochs
    # would cost more than training them.
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
        """Announce a newer checkpoint; returns at once."""
        self._offered.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoint upload", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for the upload in progress, and start no other."""
        self._closed.set()
        self._offered.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while self._offered.wait() and not self._closed.wait(max(0.0, self._due - time.monotonic())):
            self._offered.clear()
            if (
                self._closed.is_set()
            ):  # just now: what `close` has set to wake this thread is cleared with the rest
                return
            self._due = time.monotonic() + self.pause
            self._upload()

    def _upload(self) -> None:
        try:
            newest = self._source.newest
            if newest is not None:
                self._store.add(newest)
        except FileNotFoundError:  # replaced at this very moment: the newer one is offered next
            return
        except Exception as error:  # noqa: BLE001  # no failure here may end the trial
            if not self._warned and not self._hold.is_lost():  # a lost trial ends by itself
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
        folder: on local disk, for this trial alone.
        tracker: that has its run.
        run: to copy the newest checkpoints to.
        fresh: whether the run is new, so that it has none yet.
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
        """Keep `state` on local disk, and copy it to the run soon: see `CheckpointStore.save`."""
        self.local.save(state)
        self._uploader.offer()

    def load(self, damaged: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the intact ones on local disk, newest first, then those of the run: see `CheckpointStore.load`."""
        yield from self.local.load(damaged)
        yield from self.remote.load(damaged)

    def finish(self, weights: dict[str, Any]) -> None:
        """Leave the last checkpoint and the best weights in the run's artifacts, and nothing on local disk.

        Args:
            weights: the best ones, as a state dict.

        Raises:
            LabError: the disk or the store failed.
            Lost: another worker has the trial.
        """
        self.stop()
        best = self.local.folder / "best.pt"
        save_checkpoint(weights, best)
        self._run.log_file(best, _FOLDER)
        self._hold.confirm(anew=True)
        shutil.rmtree(self.local.folder)

    def stop(self) -> None:
        """Store the last checkpoint in the run's artifacts, so that any machine can continue the trial.

        Raises:
            TrackingError: the store failed.
        """
        self._uploader.close()
        self._hold.confirm(anew=True)
        self.remote.conclude(self.local.newest)  # there is none here if no epoch was trained here

    def leave(self) -> None:
        """Leave all of them as they are, because another worker has the trial."""
        self._uploader.close()
