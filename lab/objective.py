"""One trial from a config to its tracked result: joins data, trainer, tracker and checkpoints."""

from __future__ import annotations

import gc
import math
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from lab.config import TrialConfig
from lab.data import Dataset, load_data
from lab.errors import LabError, ResourceError, StudyError
from lab.models import Summary, build_model, summarize_config
from lab.restore import find_run, restore
from lab.tracking import MemoryTracker, Run, RunStatus, Tracker, pending_key
from lab.tracking.checkpoints import TrialCheckpoints
from lab.tracking.error_analysis import log_error_analysis
from lab.tracking.figures import curves, iteration_curves
from lab.tracking.provenance import provenance
from lab.training import (
    DetailedEvaluation,
    EpochResult,
    ErrorAnalysis,
    Evaluation,
    Interrupted,
    Outcome,
    Trainer,
    analyse,
    evaluate,
    resolve_device,
)

__all__ = ["Placement", "TrialResult", "analyse_run", "train"]

_MOST_CHARACTERS = 1000  # of a tag that says why
_RESTARTED = ("restarted", "from the first epoch")


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

    def checkpoints(self, run_id: str) -> Path | None:
        """Return the folder with what continues the trial of a run."""
        return self.checkpoint_dir / run_id if self.checkpoint_dir else None


@dataclass(frozen=True)
class TrialResult:
    """What a trial gave.

    `best_value` is the monitored metric after `best_epoch` (1-based; both None where no epoch was finished),
    `history` the metrics of each epoch, `test` the evaluation of the best weights on the test split, which
    `model` holds (float32 [B, C, H, W] in 0..1 -> logits [B, classes]).
    """

    config: TrialConfig
    run_id: str
    outcome: Outcome
    best_value: float | None
    best_epoch: int | None
    history: tuple[Mapping[str, float], ...]
    test: Evaluation
    errors: ErrorAnalysis
    summary: Summary
    model: nn.Module

    @property
    def value(self) -> float:
        """The best value, or the worst there is where no epoch was finished."""
        if self.best_value is not None:
            return self.best_value
        return 0.0 if self.config.mode == "max" else math.inf

    @property
    def seconds(self) -> float:
        """Training and validation time of all epochs, in seconds."""
        return sum(metrics.get("epoch_seconds", 0.0) for metrics in self.history)

    def metrics(self) -> dict[str, float]:
        """Return what a finished run logs once."""
        metrics = {
            "test_loss": self.test.loss,
            "test_accuracy": self.test.accuracy,
            "accuracy_per_million_params": self.test.accuracy / (self.summary.params / 1e6),
            **self.errors.metrics(),
            "epochs": float(len(self.history)),
            "seconds": self.seconds,
        }
        if self.best_value is not None and self.best_epoch is not None:
            metrics |= {"best_value": self.best_value, "best_epoch": float(self.best_epoch)}
        return metrics


class Normalized(nn.Module):
    """A trained model that takes images in 0..1, as `torchvision.transforms.ToTensor` gives them."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, classes] of images [B, C, H, W]."""
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits


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

    Raises:
        LabError: settings that do not fit the data, missing data, a tracking store that fails, too little memory on the
            device or space on the disk. The run is FAILED.
        Interrupted: `should_stop` said so. The run is KILLED, and its checkpoint continues it.
    """
    tracker = tracker or MemoryTracker()
    placement = placement or Placement()
    known = placement.run_id is not None and pending_key(placement.run_id) is None
    run = tracker.open_run(
        name=placement.name,
        experiment="" if known else tracker.experiment(placement.experiment),
        tags={**provenance(), "lab.cell": config.cell_hash, "lab.kind": "trial", **placement.tags},
        parent_run_id=placement.parent_run_id,
        run_id=placement.run_id,
        system_metrics=True,
    )
    folder = placement.checkpoints(placement.run_id or run.run_id)
    fresh = placement.run_id is None
    checkpoints = None if folder is None else TrialCheckpoints(folder, tracker, run, fresh=fresh)
    exhausted = ""
    try:
        on_start(run)
        result = _train(
            config, tracker, run, placement, checkpoints, download, on_epoch, should_stop, should_prune
        )
    except (Interrupted, KeyboardInterrupt, StudyError):  # or those that it reports to are away
        _end_early(run, Outcome.KILLED, RunStatus.KILLED, checkpoints)
        raise
    except torch.OutOfMemoryError as error:
        exhausted = _out_of_memory(config, error)
        _end_early(run, Outcome.FAILED, RunStatus.FAILED, checkpoints, exhausted)
    except BaseException as error:
        if "DefaultCPUAllocator" in str(error):  # of a CPU torch raises a plain RuntimeError
            exhausted = _out_of_memory(config, error)
            _end_early(run, Outcome.FAILED, RunStatus.FAILED, checkpoints, exhausted)
            raise ResourceError(exhausted) from None
        _end_early(run, Outcome.FAILED, RunStatus.FAILED, checkpoints, f"{type(error).__name__}: {error}")
        raise
    if exhausted:
        # out here the error is gone, and with it the frames that held the trial's tensors: the next trial of
        # this process finds the memory free
        gc.collect()
        torch.cuda.empty_cache()
        raise ResourceError(exhausted)
    run.end(RunStatus.KILLED if result.outcome is Outcome.PRUNED else RunStatus.FINISHED)
    return result


def _train(
    config: TrialConfig,
    tracker: Tracker,
    run: Run,
    placement: Placement,
    checkpoints: TrialCheckpoints | None,
    download: bool,
    on_epoch: Callable[[EpochResult], None],
    should_stop: Callable[[], bool],
    should_prune: Callable[[], bool],
) -> TrialResult:
    """Train in an open run, from the start or from where it was left; the arguments are those of `train`."""
    dataset = load_data(config, device=resolve_device(config), download=download)
    trainer = Trainer(config, dataset, should_stop)
    _describe(run, trainer, placement)
    points = _Points(run, tracker, fresh=placement.run_id is None)
    if placement.run_id and checkpoints:
        trainer = _continue(trainer, run, checkpoints, points, should_stop)
    if trainer.epoch:
        on_epoch(_catch_up(trainer, points))
    elif config.init_from is not None:
        _begin_with(config.init_from, trainer, run, tracker)
    pruned = _train_epochs(trainer, points, checkpoints, on_epoch, should_prune)
    result = _result(trainer, run)
    result = replace(result, outcome=Outcome.PRUNED) if pruned else result
    _log_result(run, result, trainer)
    if checkpoints is not None:
        checkpoints.finish(dict(trainer.model.state_dict()))
    return result


def analyse_run(tracker: Tracker, run_id: str, *, download: bool = False) -> ErrorAnalysis:
    """Evaluate the trained model of an earlier run on the test split again, and log its mistakes to that run.

    Raises:
        LabError: there is no such run, it kept no weights, or its data is not here.
    """
    saved = restore(tracker, run_id)
    config = saved.config
    device = resolve_device(config)
    dataset = load_data(config, device=device, download=download)
    model = build_model(config, _shape(dataset), len(dataset.classes)).to(device)
    model.load_state_dict(saved.weights)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    errors = _analyse(dataset, evaluate(model, dataset.test, dataset, config, top_k=config.top_k))
    run = tracker.attach(run_id)
    run.log_metrics(errors.metrics())
    log_error_analysis(run, errors, dataset.test.images)
    return errors


def _describe(run: Run, trainer: Trainer, placement: Placement) -> None:
    config, dataset = trainer.config, trainer.dataset
    shape = _shape(dataset)
    summary = summarize_config(config, shape, len(dataset.classes))
    run.log_params({**placement.params, **config.as_params()})
    run.log_metrics(summary.facts())
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    images = {name: len(split) for name, split in splits.items() if split is not None}
    run.set_tags(
        {
            "lab.device": _device_name(trainer.device),
            "lab.threads": str(torch.get_num_threads()),
            "lab.images": ", ".join(f"{name} {count:,}" for name, count in images.items()),
        }
    )
    run.log_dataset(
        dataset.name,
        digest=dataset.digest,
        source=dataset.source,
        shape=shape,
        classes=dataset.classes,
        images=images,
    )
    run.log_text(_config_yaml(config), "config.yaml")
    run.log_text(summary.table(), "model.txt")


def _begin_with(origin: str, trainer: Trainer, run: Run, tracker: Tracker) -> None:
    """Load the weights that `init_from` names, and record where they came from."""
    saved = restore(tracker, find_run(tracker, origin))
    trainer.begin_with(saved.weights, new_head=not saved.has_classes_of(trainer.config))
    run.log_origin(saved.run_id)


@dataclass
class _Points:
    """Logs the curves of a run, leaving out what the run has already.

    MLflow shows a point that is logged again at another time twice. A continued trial would log some again:
    those after an older checkpoint, or all where none was left.
    """

    run: Run
    tracker: Tracker
    fresh: bool
    _logged: dict[str, frozenset[int]] = field(default_factory=dict)  # steps by metric, at the start

    def log(self, *histories: Mapping[int, Mapping[str, float]]) -> None:
        """Log `histories`, metrics by step, in one request."""
        points: dict[int, dict[str, float]] = {}
        for history in histories:
            for step, metrics in history.items():
                new = {name: value for name, value in metrics.items() if step not in self.steps(name)}
                if new:
                    points.setdefault(step, {}).update(new)
        if points:
            self.run.log_history(points)

    def steps(self, metric: str) -> frozenset[int]:
        """Return the steps that the run had a value of `metric` for when it was opened."""
        # the loss is the first that is logged of an epoch: a run without any has no curves at all
        if self.fresh or (metric != "train_loss" and not self.steps("train_loss")):
            return frozenset()
        if metric not in self._logged:
            self._logged[metric] = frozenset(self.tracker.history(self.run.run_id, metric))
        return self._logged[metric]


def _continue(
    trainer: Trainer,
    run: Run,
    checkpoints: TrialCheckpoints,
    points: _Points,
    should_stop: Callable[[], bool],
) -> Trainer:
    """Return a trainer that goes on from the newest checkpoint that is whole; say on the run where it is not the last.

    Without any it begins with the first epoch.
    """
    problems: list[str] = []
    for state in checkpoints.load(problems.append):
        try:
            trainer.load_state_dict(state)
        except Exception as error:  # noqa: BLE001  # a state that is none makes torch raise anything
            problems.append(str(error) or type(error).__name__)
            trainer = Trainer(trainer.config, trainer.dataset, should_stop)  # not one with half a state
        else:
            break
    if not trainer.epoch and not problems and points.steps("train_loss"):
        problems.append("there is no checkpoint on this machine or in the run's artifacts")
    if problems:
        reason = "; ".join(problems)
        tag, place = ("continued", f"after epoch {trainer.epoch}") if trainer.epoch else _RESTARTED
        run.set_tags({f"lab.{tag}": f"{place}: {reason}"[:_MOST_CHARACTERS]})
    return trainer


def _catch_up(trainer: Trainer, points: _Points) -> EpochResult:
    """Log what the checkpoint knows and the run does not; return its last epoch, whose end nobody may have heard of."""
    points.log(dict(enumerate(trainer.history, start=1)), trainer.step_history)
    improved = trainer.patience.best_epoch == trainer.epoch
    return EpochResult(trainer.epoch, trainer.history[-1], improved)


def _train_epochs(
    trainer: Trainer,
    points: _Points,
    checkpoints: TrialCheckpoints | None,
    on_epoch: Callable[[EpochResult], None],
    should_prune: Callable[[], bool],
) -> bool:
    """Train to the end, or until the trial is pruned; return whether it was."""
    if trainer.epoch and not trainer.finished and should_prune():
        return True  # its worker may have died before it asked
    for epoch in trainer.epochs():
        if checkpoints is not None:
            checkpoints.save(trainer.state_dict())  # first, so that a logged epoch is never lost
        points.log({epoch.epoch: epoch.metrics}, epoch.steps)
        on_epoch(epoch)
        if not trainer.finished and should_prune():
            return True
    return False


def _result(trainer: Trainer, run: Run) -> TrialResult:
    config, dataset = trainer.config, trainer.dataset
    trainer.restore_best()
    test = evaluate(trainer.model, dataset.test, dataset, config, top_k=config.top_k)
    return TrialResult(
        config=config,
        run_id=run.run_id,
        outcome=trainer.outcome,
        best_value=trainer.patience.best_value,
        best_epoch=trainer.patience.best_epoch,
        history=tuple(trainer.history),
        test=test,
        errors=_analyse(dataset, test),
        summary=summarize_config(config, _shape(dataset), len(dataset.classes)),
        model=Normalized(trainer.model.eval(), dataset.mean, dataset.std),
    )


def _analyse(dataset: Dataset, test: DetailedEvaluation) -> ErrorAnalysis:
    return analyse(dataset.test.labels, test, dataset.classes)


def _log_result(run: Run, result: TrialResult, trainer: Trainer) -> None:
    metrics = result.metrics()
    if trainer.diverged_step is not None:
        metrics["diverged_step"] = float(trainer.diverged_step)
    run.log_metrics(metrics)
    run.set_tags({"lab.outcome": result.outcome})
    run.log_figure(curves(_columns(result.history), result.best_epoch), "curves.png")
    if trainer.step_history:
        run.log_figure(iteration_curves(trainer.step_history), "iteration_curves.png")
    log_error_analysis(run, result.errors, trainer.dataset.test.images)
    run.log_model(result.model, trainer.dataset.test.images[:2].float() / 255)


def _end_early(
    run: Run, outcome: Outcome, status: RunStatus, checkpoints: TrialCheckpoints | None, why: str = ""
) -> None:
    """Close the run of a trial that did not get to its end; never hides why it did not."""
    if checkpoints is not None:
        with suppress(LabError, OSError):  # the store or the disk may be the very reason
            checkpoints.stop()
    tags = {"lab.outcome": outcome, **({"lab.error": why[:_MOST_CHARACTERS]} if why else {})}
    with suppress(LabError):
        run.set_tags(tags)
    if outcome is Outcome.FAILED:
        with suppress(LabError):
            run.log_text(traceback.format_exc(), "traceback.txt")
    with suppress(LabError):
        run.end(status)


def _out_of_memory(config: TrialConfig, error: BaseException) -> str:
    reason = str(error).rpartition("DefaultCPUAllocator: ")[2].partition(" GPU 0 has")[0].partition("\n")[0]
    size = f"image_size={config.image_size}" if config.image_size else "images as large as they are"
    return (
        f"The device has too little memory for this trial (batch_size={config.batch_size}, {size},"
        f" precision={config.precision}): {reason} Lower `batch_size` or `image_size`, take a smaller net, or set"
        " `precision: bf16`; other processes on the device need memory too"
    )


def _columns(history: tuple[Mapping[str, float], ...]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for metrics in history for name in metrics)
    return {name: [metrics.get(name, math.nan) for metrics in history] for name in names}


def _config_yaml(config: TrialConfig) -> str:
    return yaml.safe_dump(config.as_values(), sort_keys=False, default_flow_style=None)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _shape(dataset: Dataset) -> tuple[int, int, int]:
    _, channels, height, width = dataset.train.images.shape
    return channels, height, width
