"""The tags that lab sets on MLflow's runs and experiments, each spelt once, and the tags of MLflow that it uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["Kind", "Tag", "keeps_files"]

Kind = Literal["study", "trial", "sweep", "lr_range"]


class Tag:
    """Keys of tags."""

    # what a run is
    KIND: Final = "lab.kind"  # a `Kind`
    STUDY: Final = "lab.study"  # name of the study
    TRIAL: Final = "lab.trial"  # number of the trial in its study
    CELL: Final = "lab.cell"  # hash of the config
    STUDY_RUN: Final = "lab.study_run"  # of a sweep: the id of the study's run
    IMPORTED: Final = (
        "lab.imported"  # of another program's run: its key there; of their study: where it is from
    )
    INIT_FROM_RUN: Final = "lab.init_from_run"  # the run whose model this one began with

    # of a study's run
    DIRECTION: Final = "lab.direction"
    MONITOR: Final = "lab.monitor"
    OBJECTIVES: Final = "lab.objectives"
    VARIED: Final = "lab.varied"

    # how a trial ended
    OUTCOME: Final = "lab.outcome"
    ERROR: Final = "lab.error"
    EARLIER_ERROR: Final = "lab.earlier_error"  # of an earlier, failed attempt
    CONTINUED: Final = "lab.continued"  # why it was not continued from the newest checkpoint
    RESTARTED: Final = "lab.restarted"  # why it began again with the first epoch

    # what it was made with
    CPU: Final = "lab.cpu"
    DEVICE: Final = "lab.device"
    HOST: Final = "lab.host"
    IMAGES: Final = "lab.images"
    MLFLOW: Final = "lab.mlflow"
    PYTHON: Final = "lab.python"
    THREADS: Final = "lab.threads"
    TORCH: Final = "lab.torch"
    TORCHVISION: Final = "lab.torchvision"
    VERSION: Final = "lab.version"
    WEIGHTS: Final = "lab.weights_digest"  # of the file of pretrained weights that it began with

    # whose writes reach a run
    ATTEMPT: Final = "lab.attempt"  # the attempt that opened the run last
    JOURNAL: Final = "lab.journal"  # key of the journal; finds a run whose creation was not acknowledged

    # MLflow's own
    COMMIT: Final = "mlflow.source.git.commit"
    NOTE: Final = "mlflow.note.content"
    PARENT: Final = "mlflow.parentRunId"


def keeps_files(tags: Mapping[str, str]) -> bool:
    """Whether a run with these tags must have artifacts.

    A study's run has some at once, a trial's as soon as it says what is trained. One that was stopped before, that of
    `mlflow run . -e sweep`, and those of other programs have none.
    """
    return Tag.IMPORTED not in tags and (tags.get(Tag.KIND) == "study" or Tag.DEVICE in tags)
