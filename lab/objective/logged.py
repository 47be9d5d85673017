"""What is logged about a trial besides its curves: a description before training, and the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
import yaml
from torch import nn

from lab import pictures
from lab.config import TrialConfig, logged_name
from lab.data import INTAKE, Dataset, Intake
from lab.errors import printable
from lab.models import summarize_config
from lab.objective.continuing import Points
from lab.objective.error_analysis import log_error_analysis
from lab.objective.result import TrialResult
from lab.tracking import Run
from lab.tracking.tags import Tag
from lab.training import Trainer

__all__ = ["log_description", "log_model", "log_result"]


def log_description(run: Run, trainer: Trainer, params: Mapping[str, str]) -> None:
    """Log what is trained, on which data and where; `params` in addition to the config's own."""
    config, dataset = trainer.config, trainer.dataset
    summary = summarize_config(config, dataset.shape, len(dataset.classes))
    run.log_params({**params, **config.as_params()})
    run.log_facts(summary.facts())
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    images = {name: len(split) for name, split in splits.items() if split is not None}
    run.set_tags(
        {
            Tag.DEVICE: _device_name(trainer.device),
            Tag.THREADS: str(torch.get_num_threads()),
            Tag.IMAGES: ", ".join(f"{name} {count:,}" for name, count in images.items()),
        }
    )
    run.log_dataset(
        dataset.name,
        digest=dataset.digest,
        source=dataset.source,
        shape=dataset.shape,
        classes=dataset.classes,
        images=images,
    )
    run.log_text(_config_yaml(config), "config.yaml")
    run.log_text(summary.table(), "model.txt")
    if dataset.notes:
        run.log_text(_data_text(dataset), "data.txt")


def log_result(run: Run, result: TrialResult, trainer: Trainer, points: Points) -> None:
    """Log the final metrics and the outcome; unless the trial was pruned, also its figures and its model."""
    metrics = result.metrics()
    if points.steps("seconds"):
        # logged by an attempt that died just before its end: keep the time it measured
        del metrics["seconds"]
    if trainer.diverged_step is not None:
        metrics["diverged_step"] = float(trainer.diverged_step)
    run.log_metrics(metrics)
    run.set_tags({Tag.OUTCOME: result.outcome})
    run.log_text(Intake.of(result.config, trainer.dataset).to_json(), INTAKE)  # read without the model, too
    if result.errors is not None:
        _log_curves(run, result, trainer.step_history)
        log_error_analysis(run, result.errors, trainer.dataset.test)
        log_model(run, result.model, result.config, trainer.dataset)


def log_model(run: Run, model: nn.Module, config: TrialConfig, dataset: Dataset) -> None:
    """Log `model`, which takes float32 [B, C, H, W] in 0..1, trained with `config` on `dataset`."""
    intake = Intake.of(config, dataset)
    example = torch.zeros(2, *dataset.shape)
    run.log_model(model, example, intake if intake.takes_pictures else None)


def _log_curves(run: Run, result: TrialResult, steps: Mapping[int, Mapping[str, float]]) -> None:
    history = _columns(result.history)
    pictures.log_figure(run, "curves.png", lambda: pictures.curves(history, result.best_epoch))
    chosen = [logged_name(name) for name in result.config.metrics]
    if chosen:
        draw = partial(pictures.metric_curves, history, chosen, result.best_epoch)
        pictures.log_figure(run, "metrics.png", draw)
    if steps:
        pictures.log_figure(run, "iteration_curves.png", lambda: pictures.iteration_curves(steps))


def _data_text(dataset: Dataset) -> str:
    """Return how the data was read, and the final number of images of each class in every split."""
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    counts = {
        name: torch.bincount(split.labels, minlength=len(dataset.classes)).tolist()
        for name, split in splits.items()
        if split is not None
    }
    each = [
        f"{printable(name)}: {', '.join(f'{split} {column[label]:,}' for split, column in counts.items())}"
        for label, name in enumerate(dataset.classes)
    ]
    return "\n".join([dataset.source, *dataset.notes, "", "images per class in each split", *each, ""])


def _columns(history: tuple[Mapping[str, float], ...]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for metrics in history for name in metrics)
    return {name: [metrics.get(name, math.nan) for metrics in history] for name in names}


def _config_yaml(config: TrialConfig) -> str:
    return yaml.safe_dump(config.as_values(), sort_keys=False, default_flow_style=None)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
