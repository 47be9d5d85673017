"""One configuration trained in this process, in a run that belongs to no study; and such a run read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lab.config import TrialConfig, check_installed, parse_values
from lab.data import describe, identified, load_data
from lab.engines.stores import Stores, connected
from lab.errors import TrackingError
from lab.models import check_weights, fetch_weights, summarize_config, with_digest
from lab.objective import LrRange, Placement, TrialResult, analyse_run, find_lr, train
from lab.restore import find_run, restore_config, whole_id
from lab.study import check_stored_origins, database_exists
from lab.tracking import Run, Tracker, UnavailableError, connect, prepare, run_in_store
from lab.training import EpochResult, ErrorAnalysis, LrCurve, RatePoint, resolve_device
from lab.training.analysis import ClassScores

__all__ = ["AnalysedRun", "Single", "analyse_stored_run", "find_stored", "new_single", "resumed_single"]


@dataclass(frozen=True)
class Single:
    """A configuration that is about to be trained, and where: from `new_single` or `resumed_single`.

    `run_id` is the run to continue, None for a new one.
    """

    config: TrialConfig
    tracker: Tracker
    stores: Stores
    run_id: str | None = None

    def train(
        self,
        *,
        experiment: str = "lab",
        name: str = "",
        run_id: str | None = None,
        download: bool = False,
        on_start: Callable[[Run], None] = lambda run: None,
        on_epoch: Callable[[EpochResult], None] = lambda result: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> TrialResult:
        """Train it.

        Args:
            experiment: name of the experiment for a new run.
            name: of a new run; the store makes one up if empty.
            run_id: a run that was opened for it, to be used instead of a new one.
            download: see `lab.train`, as for the other arguments.
            on_start: called with the open run.
            on_epoch: called after every epoch.
            should_stop: asked at every step.
        """
        placement = Placement(
            experiment, name, run_id=self.run_id or run_id, checkpoint_dir=self.stores.checkpoint_dir
        )
        return train(
            self.config,
            self.tracker,
            placement=placement,
            download=download,
            on_start=on_start,
            on_epoch=on_epoch,
            should_stop=should_stop,
        )

    def find_lr(
        self,
        sweep: LrRange,
        *,
        experiment: str = "lab",
        name: str = "",
        download: bool = False,
        on_start: Callable[[Run], None] = lambda run: None,
        on_step: Callable[[RatePoint], None] = lambda point: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> LrCurve:
        """Do a learning-rate range test of it instead of training it: see `lab.objective.find_lr`."""
        return find_lr(
            self.config,
            self.tracker,
            sweep,
            experiment=experiment,
            name=name,
            download=download,
            on_start=on_start,
            on_step=on_step,
            should_stop=should_stop,
        )

    def stored(self, run_id: str) -> tuple[str, str | None]:
        """Return the id that the store gave the run, and its experiment's: None while the store is unreachable."""
        stored, experiment = run_id, None
        with suppress(TrackingError):  # links by the journal's id still work later
            stored = run_in_store(self.tracker, run_id) or run_id
            experiment = self.tracker.experiment_of(stored)
        return stored, experiment


@dataclass(frozen=True)
class AnalysedRun:
    """The errors of a run's model on its test images, and where the run is."""

    analysis: ErrorAnalysis
    run_id: str
    experiment: str

    @property
    def worst_classes(self) -> list[ClassScores]:
        """The classes that have test images, the least accurate first."""
        tested = [scores for scores in self.analysis.per_class if scores.images]
        return sorted(tested, key=lambda scores: scores.accuracy)


def new_single(
    config: TrialConfig,
    stores: Stores,
    *,
    download: bool = False,
    on_data: Callable[[Sequence[str]], None] = lambda notes: None,
    on_trouble: Callable[[str], None] = lambda trouble: None,
) -> Single:
    """Check everything about `config` that can be checked before a run is opened, and connect the store.

    Args:
        config: from `parse_config` or `load_config`.
        stores: where the run will be kept.
        download: whether missing data and pretrained weights may be downloaded.
        on_data: called with notes on how the data is read.
        on_trouble: called with why the tracking store is unreachable; the run is kept in the journal until then.

    Raises:
        ConfigError: settings that do not fit together, the data, or the model that training starts from.
        LabError: the data is missing, or a store cannot be used.
    """
    config = _checked(config, download, on_data)
    try:
        prepare(stores.tracking_uri)
    except UnavailableError as error:
        on_trouble(str(error))
    tracker = connected(stores)
    if config.init_from is not None:
        config = config.model_copy(update={"init_from": whole_id(tracker, config.init_from)})
    check_stored_origins([config], [], tracker)
    return Single(config, tracker, stores)


def resumed_single(run: str, stores: Stores, settings: Mapping[str, str]) -> Single:
    """Return what continues an earlier run from its last checkpoint.

    Args:
        run: id of the run, or its beginning.
        stores: where it is kept.
        settings: as texts; only those that say where and how it runs (`device`, `threads`, …) may change.

    Raises:
        ConfigError: the settings would make it another trial.
        TrackingError: there is no such run, or the store is unreachable.
    """
    _require(run, stores)
    prepare(stores.tracking_uri)
    tracker = connected(stores)
    run_id = find_run(tracker, run)
    return Single(restore_config(tracker, run_id, parse_values(settings)), tracker, stores, run_id)


def analyse_stored_run(run: str, stores: Stores, *, download: bool = False) -> AnalysedRun:
    """Evaluate the model of an earlier run again; log and return its errors.

    Args:
        run: as `lab.restore.find_run` takes it.
        stores: where it is kept.
        download: whether missing data and pretrained weights may be downloaded.

    Raises:
        LabError: as `lab.objective.analyse_run`.
    """
    tracker, run_id = find_stored(run, stores)
    analysis = analyse_run(tracker, run_id, download=download)
    return AnalysedRun(analysis, run_id, tracker.experiment_of(run_id))


def find_stored(run: str, stores: Stores) -> tuple[Tracker, str]:
    """Return the tracker of `stores`, without a journal, and the whole id of a run.

    Args:
        run: as `lab.restore.find_run` takes it.
        stores: where it is kept.

    Raises:
        TrackingError: there is no such run, or the store is unreachable.
    """
    _require(run, stores)
    tracker = connect(stores.tracking_uri, stores.artifact_dir)
    return tracker, find_run(tracker, run)


def _require(run: str, stores: Stores) -> None:
    if not database_exists(stores.tracking_uri):
        raise TrackingError(f"There is no run {run}: {stores.tracking_uri} does not exist")


def _checked(config: TrialConfig, download: bool, on_data: Callable[[Sequence[str]], None]) -> TrialConfig:
    """Return `config` with what only its data can tell; raise if it cannot be trained."""
    check_installed(config)
    describe(config)
    config = with_digest(identified(config))
    fetch_weights(config, download=download)
    dataset = load_data(config, device=resolve_device(config), download=download)
    on_data(dataset.notes)
    summarize_config(config, dataset.shape, len(dataset.classes))
    check_weights(config, dataset.shape, len(dataset.classes))
    return config
