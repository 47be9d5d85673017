"""A sweep that goes on by itself: its cells are queued, and the jobs of an engine train them without this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.config import Grid
from lab.data import Dataset, clear_cache, load_data
from lab.engines import slurm
from lab.engines.choosing import check_slurm, slurm_folder, slurm_options
from lab.engines.node import Origin
from lab.engines.notices import check_notify
from lab.engines.planning import check, submit
from lab.engines.profiles import Profile
from lab.engines.stores import Stores
from lab.errors import ConfigError
from lab.models import fetch_all_weights
from lab.study import Submission, TrialQueue, requeue_failed

__all__ = ["Detached", "detach"]

_INSTEAD = {
    "local": "Queue the cells with `lab submit`, and leave a `lab worker` running, for example in tmux",
    "ray": "Queue the cells with `lab submit`, and let Ray run their workers: `ray job submit --no-wait -- lab worker "
    "--on ray --workers N --study NAME --idle-exit 60`",
}


@dataclass(frozen=True)
class Detached:
    """What goes on by itself.

    Attributes:
        submissions: what was queued of each needed study, in training order, and then of the grid's own.
        jobs: ids of the jobs that train it, such as `123_0` of an array; none if nothing was left to train.
    """

    submissions: Sequence[Submission]
    jobs: Sequence[str]

    @property
    def arrays(self) -> list[str]:
        """The ids of their arrays, by which Slurm's commands know them all."""
        return list(dict.fromkeys(job.partition("_")[0] for job in self.jobs))


def detach(
    grid: Grid,
    stores: Stores,
    profile: Profile,
    *,
    download: bool = False,
    retry_failed: bool = False,
    on_data: Callable[[Dataset], None] = lambda dataset: None,
    on_queued: Callable[[int, int], None] = lambda done, total: None,
) -> Detached:
    """Queue the cells of `grid` as `submit` does, and place jobs that train them and conclude the study.

    Args:
        grid: from `load_grid`.
        stores: where studies and runs are kept.
        profile: where the jobs run; Slurm's.
        download: whether a missing dataset may be downloaded.
        retry_failed: also train again what failed before.
        on_data: called with the data of each study's first cell, before anything is queued.
        on_queued: called while cells are queued, with how many are and how many will be.

    Raises:
        ConfigError: cells that cannot be trained, addresses of `notify` that are not there, or an engine that cannot do
            this.
        LabError: the data is missing, or the engine or a store cannot be used.
    """
    check_detachable(profile)
    check_slurm(profile, stores)
    every = check(grid)
    check_notify(planned.grid.notify for planned in every)  # jobs have this environment
    for planned in every:
        fetch_all_weights((cell.config for cell in planned.cells), download=download)
        on_data(load_data(planned.cells[0].config, download=download))
        clear_cache()
    submissions = submit(grid, stores, on_queued=on_queued)
    if retry_failed:
        for submission in submissions:
            requeue_failed(submission.queue)
    left = [submission.queue for submission in submissions if not submission.queue.is_over()]
    return Detached(submissions, _submitted(profile, stores, left) if left else [])


def check_detachable(profile: Profile) -> None:
    """Raise unless an engine's jobs outlive the process that places them.

    Raises:
        ConfigError: they do not; says what does.
    """
    if profile.engine != "slurm":
        raise ConfigError(f"--detach is for Slurm. {_INSTEAD[profile.engine]}")
    if profile.options.get("cluster") == "local":
        raise ConfigError(f"--detach is for a real Slurm, not for `cluster: local`. {_INSTEAD['local']}")


def _submitted(profile: Profile, stores: Stores, queues: Sequence[TrialQueue]) -> list[str]:
    """Submit no more jobs than trials wait; return their ids."""
    options, _ = slurm_options(profile.options)
    waiting = sum(queue.waiting() for queue in queues)
    return slurm.submit_detached(
        slurm_folder(stores),
        max(1, min(profile.options["workers"], waiting)),
        options,
        Origin.here(stores.server_file),
        stores.for_sweep(),
        [queue.name for queue in queues],
    )
