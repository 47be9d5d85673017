"""Training: the loop, stopping, optimizers, schedules, losses, checkpoints. Knows neither MLflow nor Optuna."""

from lab.training.checkpoint import CorruptCheckpoint, load_checkpoint, save_checkpoint
from lab.training.device import cores, resolve_device, use_threads
from lab.training.evaluate import Evaluation, evaluate
from lab.training.loop import EpochResult, Trainer
from lab.training.outcome import Interrupted, Outcome
from lab.training.patience import Patience

__all__ = [
    "CorruptCheckpoint",
    "EpochResult",
    "Evaluation",
    "Interrupted",
    "Outcome",
    "Patience",
    "Trainer",
    "cores",
    "evaluate",
    "load_checkpoint",
    "resolve_device",
    "save_checkpoint",
    "use_threads",
]
