"""One trial from a config to its tracked result: joins data, trainer, tracker and checkpoints."""

from lab.objective.analysis import analyse_run
from lab.objective.result import TrialResult
from lab.objective.trial import Placement, train

__all__ = ["Placement", "TrialResult", "analyse_run", "train"]
