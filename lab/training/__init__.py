"""Training: the loop, stopping, optimizers, schedules, losses, checkpoints. Knows neither MLflow nor Optuna."""

from lab.training.analysis import ErrorAnalysis, analyse
from lab.training.checkpoint import (
    CheckpointStore,
    CorruptCheckpoint,
    FolderCheckpoints,
    load_checkpoint,
    save_checkpoint,
)
from lab.training.device import cores, resolve_device, use_threads
from lab.training.evaluate import DetailedEvaluation, Evaluation, evaluate
from lab.training.loop import EpochResult, Trainer
from lab.training.outcome import Interrupted, Outcome
from lab.training.patience import Patience
from lab.training.ranking import rank
from lab.training.transfer import fitting_weights, load_pretrained

__all__ = [
    "CheckpointStore",
    "CorruptCheckpoint",
    "DetailedEvaluation",
    "EpochResult",
    "ErrorAnalysis",
    "Evaluation",
    "FolderCheckpoints",
    "Interrupted",
    "Outcome",
    "Patience",
    "Trainer",
    "analyse",
    "cores",
    "evaluate",
    "fitting_weights",
    "load_checkpoint",
    "load_pretrained",
    "rank",
    "resolve_device",
    "save_checkpoint",
    "use_threads",
]
