"""Where a trial's run belongs in the tracker, and its checkpoints on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.places import absolute_path

__all__ = ["Placement"]


@dataclass(frozen=True)
class Placement:
    """Where a trial's run belongs in the tracker.

    Args:
        experiment: name of the experiment.
        name: name of the run; the tracker makes one up if empty.
        tags: set on the run in addition to those that every trial has.
        params: logged in addition to the config's own, such as the names of variants.
        parent_run_id: the study's run.
        run_id: run to continue, instead of a new one.
        checkpoint_dir: local folder that holds a folder of checkpoints for each run; None to write none.
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
        """Return the folder with the checkpoints of a run."""
        return self.checkpoint_dir / run_id if self.checkpoint_dir else None
