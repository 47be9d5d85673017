"""One attempt at a trial: its run is opened, the trial trained or continued, and the run ended, however it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from lab.config import TrialConfig
from lab.data import Dataset, load_data, settled
from lab.errors import LabError, OtherDataError, OutOfMemoryError, StudyError, TrackingError
from lab.hold import Hold, Lost
from lab.objective.beginning import begin_with_weights
from lab.objective.continuing import Points, catch_up, resume
from lab.objective.ending import end_early
from lab.objective.logged import log_description, log_result
from lab.objective.out_of_memory import explain_out_of_memory, free_memory
from lab.objective.placement import Placement
from lab.objective.result import TrialResult, result_of
from lab.tracking import MemoryTracker, Run, RunStatus, Tracker, pending_key
from lab.tracking.checkpoints import TrialCheckpoints
from lab.tracking.provenance import provenance
from lab.tracking.tags import Tag
from lab.training import EpochResult, Interrupted, Outcome, Trainer, resolve_device

__all__ = ["train"]


def train(
    config: TrialConfig,
    tracker: Tracker | None = None,
    *,
    placement: Placement | None = None,
    dataset: Dataset | None = None,
    download: bool = False,
    on_start: Callable[[Run], None] = lambda run: None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
    should_stop: Callable[[], bool] = lambda: False,
    should_prune: Callable[[], bool] = lambda: False,
    hold: Hold | None = None,
    retry_out_of_memory: bool = False,
) -> TrialResult:
    """Train `config` and log everything about it to `tracker`.

    Args:
        config: the trial's settings.
        tracker: from `lab.connect`; in memory only if None.
        placement: the run's experiment, name and tags, and where its checkpoints are kept.
        dataset: on the trial's device, in place of the one that `config` names.
        download: whether missing data and pretrained weights may be downloaded.
        on_start: called with the open run before training.
        on_epoch: called after every epoch, once it is logged; first with the last epoch of the checkpoint if continued.
        should_stop: asked at every step; True stops the trial there.
        should_prune: asked after every epoch but the last; True ends the trial with the outcome `pruned`. Its run is
            KILLED, and keeps curves, checkpoints and best weights; it is not tested, and has no figures and no model.
        hold: on the trial, if others may be given it; confirmed before every write.
        retry_out_of_memory: whether running out of memory leaves the run KILLED, to be continued, instead of FAILED.

    Raises:
        OutOfMemoryError: the device has too little memory.
        LabError: the settings do not fit the data, data is missing, the tracking store fails, or the disk is full. The
            run is FAILED.
        Interrupted: `should_stop` returned True. The run is KILLED, and its checkpoint continues it.
        Lost: the trial is another worker's now. Its run and checkpoints are left as they were.
    """
    tracker, placement, hold = tracker or MemoryTracker(), placement or Placement(), hold or Hold()
    config = settled(config)
    run = _open_run(config, tracker, placement, hold)
    checkpoints = _checkpoints(tracker, placement, run, hold)
    attempt = _Attempt(
        config, tracker, run, placement, dataset, checkpoints, hold, on_epoch, should_stop, should_prune
    )
    return attempt.run_to_end(on_start, download, retry_out_of_memory)


def _open_run(config: TrialConfig, tracker: Tracker, placement: Placement, hold: Hold) -> Run:
    known = placement.run_id is not None and pending_key(placement.run_id) is None
    return tracker.open_run(
        name=placement.name,
        experiment="" if known else tracker.experiment(placement.experiment),
        tags={**provenance(), Tag.CELL: config.cell_hash, Tag.KIND: "trial", **placement.tags},
        parent_run_id=placement.parent_run_id,
        run_id=placement.run_id,
        system_metrics=True,
        hold=hold,
    )


def _checkpoints(tracker: Tracker, placement: Placement, run: Run, hold: Hold) -> TrialCheckpoints | None:
    folder = placement.checkpoints(placement.run_id or run.run_id)
    fresh = placement.run_id is None
    return None if folder is None else TrialCheckpoints(folder, tracker, run, fresh=fresh, hold=hold)


@dataclass(frozen=True)
class _Attempt:
    """An attempt at a trial, with its run open; the fields are the arguments of `train`."""

    config: TrialConfig
    tracker: Tracker
    run: Run
    placement: Placement
    dataset: Dataset | None
    checkpoints: TrialCheckpoints | None
    hold: Hold
    on_epoch: Callable[[EpochResult], None]
    should_stop: Callable[[], bool]
    should_prune: Callable[[], bool]

    def run_to_end(
        self, on_start: Callable[[Run], None], download: bool, retry_out_of_memory: bool
    ) -> TrialResult:
        """Train the trial and end its run, whatever happens: see `train`."""
        with self._left_if_lost():
            result = self._train_or_end_early(on_start, download, retry_out_of_memory)
            pruned = result.outcome is Outcome.PRUNED
            self.run.end(RunStatus.KILLED if pruned else RunStatus.FINISHED)
        return result

    @contextmanager
    def _left_if_lost(self) -> Iterator[None]:
        """If an error was raised because the trial is lost, leave its run and checkpoints alone and raise `Lost`."""
        try:
            yield
        except Exception:
            if not self.hold.is_lost():
                raise
            if self.checkpoints is not None:
                self.checkpoints.leave()
            self.run.leave()
            raise Lost from None

    def _train_or_end_early(
        self, on_start: Callable[[Run], None], download: bool, retry_out_of_memory: bool
    ) -> TrialResult:
        out_of_memory = ""
        try:
            on_start(self.run)
            return self._train(download)
        except Lost:
            raise
        except (Interrupted, KeyboardInterrupt, StudyError):
            # after a StudyError: the study's database is down, the trial is not wrong
            self._end_early(Outcome.KILLED)
            raise
        except BaseException as error:
            out_of_memory = explain_out_of_memory(error, self.config)
            if out_of_memory and retry_out_of_memory:
                self._end_early(Outcome.KILLED)
            else:
                self._end_early(Outcome.FAILED, out_of_memory or f"{type(error).__name__}: {error}")
            if not out_of_memory:
                raise
        # only here, after the handler, are the error and the frames that held the trial's tensors gone
        free_memory()
        raise OutOfMemoryError(out_of_memory)

    def _train(self, download: bool) -> TrialResult:
        """Train from the start, or from the last checkpoint, and log everything but the run's end."""
        device = resolve_device(self.config)
        dataset = self.dataset or load_data(self.config, device=device, download=download)
        if self.placement.run_id is not None:
            self._check_images(dataset)
        trainer = Trainer(self.config, dataset, self._must_stop)
        log_description(self.run, trainer, self.placement.params)
        points = Points(self.run, self.tracker, fresh=self.placement.run_id is None)
        trainer = self._begin(trainer, points, download)
        try:
            pruned = self._train_epochs(trainer, points)
        except Interrupted:
            if trainer.step:  # between epochs there is a checkpoint already
                self._keep(trainer)
            raise
        return self._finish(trainer, points, pruned)

    def _check_images(self, dataset: Dataset) -> None:
        """Refuse to continue with other images than before, unless a digest in the config has checked them already."""
        config, recorded = self.config, set[str]()
        if config.is_of_files and config.data_digest is None:
            with suppress(TrackingError):  # unreachable
                datasets = self.tracker.dataset_digests(self.run.run_id)
                recorded = {digest for name, digest in datasets if name == config.dataset}
        if recorded - {dataset.digest}:
            raise OtherDataError(
                f"The images in {dataset.source} have changed since this trial began; restore them, or start a new"
                " trial"
            )

    def _begin(self, trainer: Trainer, points: Points, download: bool) -> Trainer:
        """Return a trainer at the last checkpoint if there is one, or else with the weights to begin with."""
        if self.placement.run_id and self.checkpoints:
            trainer = resume(trainer, self.run, self.checkpoints, points, self._must_stop)
        if trainer.epoch:
            self.on_epoch(catch_up(trainer, points))
        elif not trainer.place:
            begin_with_weights(trainer, self.tracker, self.run, download=download)
        return trainer

    def _train_epochs(self, trainer: Trainer, points: Points) -> bool:
        """Train to the end or until the trial is pruned; return whether it was pruned."""
        if trainer.epoch and not trainer.finished and self.should_prune():
            return True  # its worker may have died before it asked
        for epoch in trainer.epochs(keep=lambda: self._keep(trainer)):
            self._keep(trainer)  # first, so that a logged epoch is never lost
            points.log({epoch.epoch: epoch.metrics}, epoch.steps)
            self.on_epoch(epoch)
            if not trainer.finished and self.should_prune():
                return True
        return False

    def _must_stop(self) -> bool:
        self.hold.confirm()
        return self.should_stop()

    def _keep(self, trainer: Trainer) -> None:
        """Write a checkpoint of the trainer's state, if the trial could be continued from it."""
        if self.checkpoints is not None and trainer.is_settled and trainer.place:
            self.checkpoints.save(trainer.state_dict())

    def _finish(self, trainer: Trainer, points: Points, pruned: bool) -> TrialResult:
        result = result_of(trainer, self.run.run_id, pruned=pruned)
        log_result(self.run, result, trainer, points)
        if self.checkpoints is not None:
            self.checkpoints.finish(dict(trainer.model.state_dict()))
        return result

    def _end_early(self, outcome: Outcome, why: str = "") -> None:
        """End the run of a trial that did not finish; never hides the reason with an error of its own.

        Raises:
            Lost: the trial is another worker's now, which may be the very reason.
        """
        self.hold.confirm(anew=True)
        if self.checkpoints is not None:
            with suppress(LabError, OSError):  # the store or the disk may be the very reason
                self.checkpoints.stop()
        status = RunStatus.FAILED if outcome is Outcome.FAILED else RunStatus.KILLED
        end_early(self.run, status, {Tag.OUTCOME: outcome}, why)
