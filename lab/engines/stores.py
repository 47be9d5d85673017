"""Where everything is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab import plugins
from lab import study as studies  # asked for what it has only when that is needed: torch takes seconds
from lab import tracking as trackers  # likewise: a sweep has started its fork server by then
from lab.places import absolute_address, absolute_path, sqlite_file
from lab.server_file import read_server_file

if TYPE_CHECKING:
    from lab.study import WorkerSettings
    from lab.tracking import Tracker

__all__ = ["Stores", "connected", "tracking"]


@dataclass(frozen=True)
class Stores:
    """Where studies, runs, artifacts and checkpoints are kept; by default in `.lab` of the working directory.

    `journal_dir` is on a local disk and holds what was logged until the tracking store has acknowledged it. Relative
    paths start from the directory that is current when they are given; `~` and `$NAME` mean what they mean in a shell.
    `server_file` is the one of the `lab serve` whose stores these are, if any. `allow_code` is whether workers may run
    the code that studies bring along, `known_code` has the digests of plug-ins that they may run in any case.

    Raises:
        ConfigError: a path begins with an unknown home folder or variable.
    """

    storage: str = "sqlite:///.lab/optuna.db"
    tracking_uri: str = "sqlite:///.lab/mlflow.db"
    artifact_dir: Path = Path(".lab/artifacts")
    checkpoint_dir: Path = Path(".lab/checkpoints")
    journal_dir: Path = Path(".lab/journal")
    server_file: Path | None = None
    allow_code: bool = True
    known_code: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("storage", "tracking_uri"):
            object.__setattr__(self, name, absolute_address(getattr(self, name)))
        for name in ("artifact_dir", "checkpoint_dir", "journal_dir"):
            object.__setattr__(self, name, absolute_path(getattr(self, name)))

    @property
    def are_own(self) -> bool:
        """Whether the studies are in a database of one's own: in a file, or of one's own `lab serve`."""
        file = sqlite_file(self.storage)
        if file is None and self.server_file is not None:
            known = read_server_file(self.server_file).storage == self.storage
            return known and _is_mine(self.server_file)
        return file is not None and _is_mine(file)

    def for_sweep(self) -> Self:
        """Return the stores for workers of a sweep: of others' databases they run only the code that is loaded here."""
        if not self.allow_code or self.are_own:
            return self
        digests = tuple(kept["digest"] for kept in plugins.records(plugins.loaded()))
        return replace(self, allow_code=False, known_code=digests)

    def for_worker(self, study: str, *, alone: bool = True, only_alone: bool = False) -> WorkerSettings:
        """Return the settings of a worker of `study`; see `WorkerSettings` for `alone` and `only_alone`."""
        return studies.WorkerSettings(
            study=study,
            storage=self.storage,
            tracking_uri=self.tracking_uri,
            artifact_dir=self.artifact_dir,
            checkpoint_dir=self.checkpoint_dir,
            journal_dir=self.journal_dir,
            alone=alone,
            only_alone=only_alone,
            allow_code=self.allow_code,
            known_code=self.known_code,
        )


def _is_mine(file: Path) -> bool:
    """Return whether a file belongs to the user of this process, or will, as there is none yet."""
    try:
        return not hasattr(os, "getuid") or file.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def connected(stores: Stores) -> Tracker:
    """Return the tracker of `stores`, which writes through its journal."""
    return trackers.connect(stores.tracking_uri, stores.artifact_dir, stores.journal_dir)


@contextmanager
def tracking(stores: Stores) -> Iterator[Tracker]:
    """Connect the tracker, and deliver what was written at the end of the block."""
    tracker = connected(stores)
    try:
        yield tracker
    finally:
        tracker.flush()
