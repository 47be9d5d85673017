"""Training one config in a run of its own, to whatever end."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from lab.config import TrialConfig
from lab.data import Dataset, load_data, settled
from lab.errors import LabError, OtherDataError, OutOfMemoryError, StudyError, TrackingError
from lab.hold import Hold, Lost
from lab.objective.continuing import MOST_CHARACTERS, Points, catch_up, go_on
from lab.objective.logged import log_description, log_result
from lab.objective.result import TrialResult, result_of
from lab.places import absolute_path
from lab.restore import find_run, restore
from lab.tracking import MemoryTracker, Run, RunStatus, Tracker, pending_key
from lab.tracking.checkpoints import TrialCheckpoints
from lab.tracking.provenance import provenance
from lab.tracking.tags import Tag
from lab.training import EpochResult, Interrupted, Outcome, Trainer, resolve_device

__all__ = ["Placement", "train"]


@dataclass(frozen=True)
class Placement:
    """Where a trial's run stands in the tracker.

    Args:
        experiment: name of the experiment.
        name: the run's name; the tracker makes one up if empty.
        tags: set on the run beside those that every trial has.
        params: logged beside the config's own, such as the names of variants.
        parent_run_id: the study's run.
        run_id: run to continue, instead of a new one.
        checkpoint_dir: local folder with a folder of checkpoints for each run; none are written without one.
    """

    experiment: str = "lab"
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    parent_run_id: str | None = None
    run_id: str | None = None
    checkpoint_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.checkpoint_dir is not None:
            object.__setattr__(self, "checkpoint_dir", absolute_path(self.checkpoint_dir))

    def checkpoints(self, run_id: str) -> Path | None:
        """Return the folder with what continues the trial of a run."""
        return self.checkpoint_dir / run_id if self.checkpoint_dir else None


def train(
    config: TrialConfig,
    tracker: Tracker | None = None,
    *,
    placement: Placement | None = None,
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
        download: whether a missing dataset may be downloaded.
        on_start: called with the open run before training.
        on_epoch: called after every epoch, once it is logged; when a trial is continued, first with the last
            epoch of its checkpoint.
        should_stop: asked at every step; True stops the trial there.
        should_prune: asked after every epoch but the last; True ends the trial there, with the outcome
            `pruned` and all that a finished one has. Its run is KILLED.
        hold: on the trial, where others may be given it; confirmed before everything that is written.
        retry_out_of_memory: whether the trial will be continued after running out of memory, for instance without
            other trials on its GPU; its run is KILLED then, not FAILED.

    Raises:
        OutOfMemoryError: the device has too little memory. The run is FAILED, or KILLED if `retry_out_of_memory`.
        LabError: settings that do not fit the data, missing data, a tracking store that fails, or too little space on
            the disk. The run is FAILED.
        Interrupted: `should_stop` said so. The run is KILLED, and its checkpoint continues it.
        Lost: the trial is somebody else's. The run and the checkpoints are as they were.
    """
    tracker = tracker or MemoryTracker()
    placement = placement or Placement()
    hold = hold or Hold()
    config = settled(config)
    run = _open_run(config, tracker, placement, hold)
    folder = placement.checkpoints(placement.run_id or run.run_id)
    fresh = placement.run_id is None
    checkpoints = None if folder is None else TrialCheckpoints(folder, tracker, run, fresh=fresh, hold=hold)
    trial = _Trial(config, tracker, run, placement, checkpoints, hold, on_epoch, should_stop, should_prune)
    with trial.left_where_lost():
        result = _train(trial, on_start, download=download, retry_out_of_memory=retry_out_of_memory)
        run.end(RunStatus.KILLED if result.outcome is Outcome.PRUNED else RunStatus.FINISHED)
    return result


def _train(
    trial: _Trial, on_start: Callable[[Run], None], *, download: bool, retry_out_of_memory: bool
) -> TrialResult:
    exhausted = ""
    try:
        on_start(trial.run)
        return trial.train(download=download)
    except Lost:
        raise
    except (Interrupted, KeyboardInterrupt, StudyError):  # or those that it reports to are away
        trial.end_early(Outcome.KILLED)
        raise
    except BaseException as error:
        exhausted = _out_of_memory(trial.config, error)
        if exhausted and retry_out_of_memory:
            trial.end_early(Outcome.KILLED)
        else:
            trial.end_early(Outcome.FAILED, exhausted or f"{type(error).__name__}: {error}")
        if not exhausted:
            raise
    # out here the error is gone, and with it the frames that held the trial's tensors: the next trial of
    # this process finds the memory free
    gc.collect()
    torch.cuda.empty_cache()
    raise OutOfMemoryError(exhausted)


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


@dataclass(frozen=True)
class _Trial:
    """A trial whose run is open; the fields are the arguments of `train`."""

    config: TrialConfig
    tracker: Tracker
    run: Run
    placement: Placement
    checkpoints: TrialCheckpoints | None
    hold: Hold
    on_epoch: Callable[[EpochResult], None]
    should_stop: Callable[[], bool]
    should_prune: Callable[[], bool]

    def train(self, *, download: bool) -> TrialResult:
        """Train from the start, or from where it was left, and log all of it but the run's end."""
        dataset = load_data(self.config, device=resolve_device(self.config), download=download)
        if self.placement.run_id is not None:
            self._check_images(dataset)
        trainer = Trainer(self.config, dataset, self._must_stop)
        log_description(self.run, trainer, self.placement.params)
        points = Points(self.run, self.tracker, fresh=self.placement.run_id is None)
        if self.placement.run_id and self.checkpoints:
            trainer = go_on(trainer, self.run, self.checkpoints, points, self._must_stop)
        if trainer.epoch:
            self.on_epoch(catch_up(trainer, points))
        elif not trainer.place and self.config.init_from is not None:
            self._begin_with(self.config.init_from, trainer)
        try:
            pruned = self._train_epochs(trainer, points)
        except Interrupted:
            if trainer.step:  # or there is one already
                self._keep(trainer)
            raise
        result = result_of(trainer, self.run.run_id)
        result = replace(result, outcome=Outcome.PRUNED) if pruned else result
        log_result(self.run, result, trainer, points)
        if self.checkpoints is not None:
            self.checkpoints.finish(dict(trainer.model.state_dict()))
        return result

    @contextmanager
    def left_where_lost(self) -> Iterator[None]:
        """Raise `Lost`, and leave run and checkpoints as they are, where that is why something was raised."""
        try:
            yield
        except Exception:
            if not self.hold.is_lost():
                raise
            if self.checkpoints is not None:
                self.checkpoints.leave()
            self.run.leave()
            raise Lost from None

    def end_early(self, outcome: Outcome, why: str = "") -> None:
        """Close the run of a trial that did not get to its end; never hides why it did not.

        Raises:
            Lost: the trial is somebody else's, which may be the very reason.
        """
        self.hold.confirm(anew=True)
        if self.checkpoints is not None:
            with suppress(LabError, OSError):  # the store or the disk may be the very reason
                self.checkpoints.stop()
        tags = {Tag.OUTCOME: outcome, **({Tag.ERROR: why[:MOST_CHARACTERS]} if why else {})}
        with suppress(LabError):
            self.run.set_tags(tags)
        if outcome is Outcome.FAILED:
            with suppress(LabError):
                self.run.log_text(traceback.format_exc(), "traceback.txt")
        with suppress(LabError):
            self.run.end(RunStatus.FAILED if outcome is Outcome.FAILED else RunStatus.KILLED)

    def _must_stop(self) -> bool:
        self.hold.confirm()
        return self.should_stop()

    def _keep(self, trainer: Trainer) -> None:
        """Write a checkpoint of where the trainer is, if one could go on from there."""
        if self.checkpoints is not None and trainer.is_settled and trainer.place:
            self.checkpoints.save(trainer.state_dict())

    def _check_images(self, dataset: Dataset) -> None:
        """Refuse to go on with other images than were trained on before, where no digest in the config told."""
        config, recorded = self.config, set[str]()
        if config.is_of_files and config.data_digest is None:
            with suppress(TrackingError):  # away
                datasets = self.tracker.dataset_digests(self.run.run_id)
                recorded = {digest for name, digest in datasets if name == config.dataset}
        if recorded - {dataset.digest}:
            raise OtherDataError(
                f"The images in {dataset.source} have changed since this trial began; bring them back as they"
                " were, or begin a new one"
            )

    def _begin_with(self, origin: str, trainer: Trainer) -> None:
        """Load the weights that `init_from` names, and record where they came from."""
        saved = restore(self.tracker, find_run(self.tracker, origin))
        trainer.begin_with(saved.weights, new_head=not saved.has_classes_of(trainer.config))
        self.run.log_origin(saved.run_id)

    def _train_epochs(self, trainer: Trainer, points: Points) -> bool:
        """Train to the end, or until the trial is pruned; return whether it was."""
        if trainer.epoch and not trainer.finished and self.should_prune():
            return True  # its worker may have died before it asked
        for epoch in trainer.epochs(keep=lambda: self._keep(trainer)):
            self._keep(trainer)  # first, so that a logged epoch is never lost
            points.log({epoch.epoch: epoch.metrics}, epoch.steps)
            self.on_epoch(epoch)
            if not trainer.finished and self.should_prune():
                return True
        return False


def _out_of_memory(config: TrialConfig, error: BaseException) -> str:
    """Return what to say of an error that memory was the reason of, nothing of another."""
    # of a CPU torch raises a plain RuntimeError
    if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
        return ""
    reason = str(error).rpartition("DefaultCPUAllocator: ")[2].partition(" GPU 0 has")[0].partition("\n")[0]
    size = f"image_size={config.image_size}" if config.image_size else "images as large as they are"
    return (
        f"The device has too little memory for this trial (batch_size={config.batch_size}, {size},"
        f" precision={config.precision}): {reason} Lower `batch_size` or `image_size`, take a smaller net, or set"
        " `precision: bf16`; other processes on the device need memory too"
    )
