"""What a trial begins with besides random weights."""

from __future__ import annotations

from lab.models import pretrained_weights
from lab.restore import find_run, restore, trained_on
from lab.tracking import Run, Tracker
from lab.tracking.tags import Tag
from lab.training import Trainer

__all__ = ["begin_with_weights"]


def begin_with_weights(trainer: Trainer, tracker: Tracker, run: Run, *, download: bool) -> None:
    """Load the weights that the config names, if any; record on `run` which earlier run or which file they are from.

    Args:
        trainer: fresh.
        tracker: where the model that `init_from` names is.
        run: of the trial.
        download: whether missing pretrained weights may be downloaded.

    Raises:
        LabError: they are missing, or belong to another model.
    """
    config, dataset = trainer.config, trainer.dataset
    if config.init_from is not None:
        saved = restore(tracker, find_run(tracker, config.init_from))
        theirs = trained_on(tracker, saved.run_id, saved.config).classes
        trainer.begin_with(saved.weights, new_head=theirs != dataset.classes)
        run.log_origin(saved.run_id)
        return
    found = pretrained_weights(config, dataset.shape, len(dataset.classes), download=download)
    if found is not None:
        trainer.begin_with(dict(found.tensors), new_head=found.new_head)
        run.set_tags({Tag.WEIGHTS: found.digest})
