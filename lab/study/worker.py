"""A worker: claims trials of one study and trains them in this process, one after another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from optuna.exceptions import UpdateFinishedTrialError

from lab.config import TrialConfig, as_text, check_installed
from lab.data import check_data, load_data
from lab.errors import LabError, MissingDataError, OtherDataError, OutOfMemoryError, StudyError, TrackingError
from lab.hold import Hold, Lost
from lab.identity import process_name
from lab.objective import Placement, TrialResult, train
from lab.study.code import own_code
from lab.study.events import EpochEnded, Event, TrialEnded, TrialStarted, WorkerFailed
from lab.study.forecast import Forecast
from lab.study.keys import TrialKey
from lab.study.opening import open_storage
from lab.study.pulse import Pulse
from lab.study.queue import Claim, TrialQueue
from lab.study.record import TrialRecord
from lab.study.search.searcher import Searcher, StudySearch
from lab.study.studies import Studies
from lab.tracking import Run, RunStatus, Tracker, UnavailableError, connect
from lab.tracking.tags import Tag
from lab.training import EpochResult, Interrupted, Outcome, resolve_device

__all__ = ["WorkerSettings", "work"]

# seconds for the tracking store to take the remaining writes; the rest stays in the journal, for the next worker here
_END_SECONDS = 10.0
_STOP_SECONDS = 4.0  # a supervisor kills workers that take eight seconds to stop
_STOP_PATIENCE = 1.0  # if the store does not answer


@dataclass(frozen=True)
class WorkerSettings:
    """Where a worker finds its study and keeps its results; plain values, to be given to any process.

    Args:
        study: name of the study.
        storage: address of the study database.
        tracking_uri: address of the tracking store.
        artifact_dir: where a store without a server keeps artifacts.
        checkpoint_dir: where running trials keep their checkpoints.
        journal_dir: where writes are kept until the tracking store has them; without it, training waits for the store.
        alone: whether this worker has its GPU to itself. If not, a trial that runs out of memory is put back, to be
            retried by a worker that has.
        only_alone: whether it trains only trials that were put back for this, and then exits.
        allow_code: whether the code that a study brings along may run here.
        known_code: digests of plug-ins that may in any case: those of whoever started the worker.
        until: when its place is taken away, in seconds since 1970; None if it may stay.
        rivals: the studies that it gives way to between two trials, once one of higher priority has trials that may
            start; all of the database if empty. None if to no other.
        node: name of the machine if an engine has chosen it. Errors name it, and what it lacks is no fault of
            its trials.
    """

    study: str
    storage: str
    tracking_uri: str
    artifact_dir: Path
    checkpoint_dir: Path
    journal_dir: Path | None = None
    alone: bool = True
    only_alone: bool = False
    allow_code: bool = True
    known_code: tuple[str, ...] = ()
    until: float | None = None
    rivals: Sequence[str] | None = None
    node: str = ""

    def failed(self, error: LabError) -> WorkerFailed:
        """Return what a worker says that cannot continue."""
        return WorkerFailed(f"Node {self.node}: {error}" if self.node else str(error))


def work(settings: WorkerSettings, emit: Callable[[Event], None], should_stop: Callable[[], bool]) -> None:
    """Train the study's waiting trials until none may start, a rival goes first, or `should_stop` returns True.

    With `until`, a trial that will probably not end in time is left to another worker; but the first one is begun, so
    that trials that are longer than any worker's time get on as well.
    """
    try:
        storage = open_storage(settings.storage, wait=True, should_stop=should_stop)
        queue = TrialQueue(storage, settings.study)
        tracker = connect(settings.tracking_uri, settings.artifact_dir, settings.journal_dir)
    except LabError as error:
        emit(settings.failed(error))
        return
    try:
        fault = queue.record().fault
        if fault:
            raise StudyError(f"The study '{queue.name}' cannot be trained: {fault}")
        with own_code(queue, allowed=settings.allow_code, known=settings.known_code):
            search = StudySearch(queue, should_stop)
            for claim in _claims(queue, search, settings, should_stop):
                _Attempt(claim, queue, tracker, settings, emit, should_stop, search.searcher()).run()
    except LabError as error:
        emit(settings.failed(error))
    finally:
        if should_stop():
            tracker.flush(_STOP_SECONDS, _STOP_PATIENCE)
        else:
            tracker.flush(_END_SECONDS)


def _claims(
    queue: TrialQueue, search: StudySearch, settings: WorkerSettings, should_stop: Callable[[], bool]
) -> Iterator[Claim]:
    """Claim one trial after another, until none may start, none fits into the time left, or a rival goes first."""
    until = math.inf  # for the first
    rivals = (
        None if settings.rivals is None else Studies(settings.storage, settings.rivals, storage=queue.storage)
    )
    while not should_stop() and not search.is_exhausted():
        try:
            claim = queue.claim(
                search.prepare,
                alone=settings.alone,
                only_alone=settings.only_alone,
                fits=_fitting(queue, until),
            )
        except Interrupted:
            return
        if claim is None:
            if search.promote():
                continue
            return
        yield claim
        if rivals is not None and rivals.outrank(queue):
            return  # whoever has started this worker starts another, on that study
        until = math.inf if settings.until is None else settings.until


def _fitting(queue: TrialQueue, until: float) -> Callable[[TrialRecord], bool]:
    """Return a function that tells whether a trial will probably end before `until`."""
    if until == math.inf:
        return lambda record: True
    forecast = Forecast(queue)
    return lambda record: time.time() + (forecast.seconds(record) or 0.0) <= until


@dataclass(frozen=True)
class _Attempt:
    """One claimed trial, while this worker has it."""

    claim: Claim
    queue: TrialQueue
    tracker: Tracker
    settings: WorkerSettings
    emit: Callable[[Event], None]
    should_stop: Callable[[], bool]
    searcher: Searcher | None = None

    def run(self) -> None:
        """Train the trial, and tell the study and the supervisor how it ended.

        Raises:
            TrackingError: the tracking store fails; the trial was put back, because the next would fail as well.
            OtherDataError: this machine has other images than the trial was planned with; it was put back too.
            MissingDataError: this machine, which an engine has chosen, has no such data; it was put back too.
            StudyError: the study database is down for good, or a package that the trial needs is missing here;
                another worker will continue the trial.
        """
        claim = self.claim
        self.emit(TrialStarted(claim.number, claim.label, claim.config.epochs, process_name()))
        try:
            self._train_and_tell()
        except (Lost, UpdateFinishedTrialError):  # this worker was thought dead
            self.emit(TrialEnded(claim.number, claim.label, Outcome.KILLED, error=f"{Lost()}"))

    def _train_and_tell(self) -> None:
        claim, pulse = self.claim, Pulse(self.queue, self.claim.trial_id)
        try:
            with pulse:
                result = self._train(
                    pulse.hold, lambda: self.should_stop() or pulse.cancelled, lambda: pulse.stopped
                )
        except (Lost, UpdateFinishedTrialError):
            raise
        except Interrupted:
            self._put_back(pulse.hold)
            self.emit(TrialEnded(claim.number, claim.label, Outcome.KILLED))
        except (OtherDataError, TrackingError, StudyError):
            self._put_back(pulse.hold)
            raise
        except MissingDataError as error:
            if self.settings.node:
                self._put_back(pulse.hold)
                raise
            with _settling(pulse.hold):
                self._fail(error)
        except OutOfMemoryError as error:
            self._retry_alone(error, pulse.hold)
        except Exception as error:  # noqa: BLE001  # whatever one cell raises, the others are trained
            with _settling(pulse.hold):
                self._fail(error)
        else:
            with _settling(pulse.hold):
                self._complete(result)

    def _put_back(self, hold: Hold) -> None:
        with _settling(hold):
            self.queue.put_back(self.claim.trial_id)

    def _retry_alone(self, error: OutOfMemoryError, hold: Hold) -> None:
        """Put back a trial that ran out of memory on a shared GPU; fail one that had it to itself."""
        if self.settings.alone:
            with _settling(hold):
                self._fail(error)
            return
        with _settling(hold):
            self.queue.put_back(self.claim.trial_id, alone=True)
        reason = f"{error}. It is returned to the queue, to be retried with a GPU to itself"
        self.emit(TrialEnded(self.claim.number, self.claim.label, Outcome.KILLED, error=reason))

    def _train(
        self, hold: Hold, should_stop: Callable[[], bool], is_ended: Callable[[], bool]
    ) -> TrialResult:
        # One thread unless the config says otherwise, however many workers there are: with another number of
        # threads, sums differ in the last bits.
        config = self.claim.config
        config = config.model_copy(update={"threads": config.threads or 1})
        _check_installed(config)  # before a run is opened
        check_data(config)
        if self.settings.node:
            _load(config)
        study = self.queue.record()
        placement = Placement(
            experiment=study.experiment,
            name=self.claim.label,
            tags={Tag.STUDY: self.settings.study, Tag.TRIAL: str(self.claim.number)},
            params={name: as_text(value) for name, value in self.claim.params.items()},
            parent_run_id=study.run_id,
            run_id=self._run_to_continue(study.experiment),
            checkpoint_dir=self.settings.checkpoint_dir,
        )
        return train(
            config,
            self.tracker,
            placement=placement,
            on_start=_losing(hold)(self._started),
            on_epoch=_losing(hold)(self._epoch_ended),
            should_stop=should_stop,
            should_prune=_losing(hold)(lambda: is_ended() or self._should_prune()),
            hold=hold,
            retry_out_of_memory=not self.settings.alone,
        )

    def _run_to_continue(self, experiment: str) -> str | None:
        """Return the run of an earlier attempt, None if there is none or it was deleted."""
        run_id = self.claim.run_id or self._left_run(experiment)
        if run_id is None:
            return None
        with suppress(UnavailableError):  # its journal continues it
            if run_id in self.tracker.missing_runs([run_id]):
                return None
        return run_id

    def _left_run(self, experiment: str) -> str | None:
        """Return the run of a worker that was killed after it created one, and before it could note its id.

        None while the store is unreachable: a run is begun anew, and what such a worker may have left stays as it is.
        """
        if not self.claim.tried:
            return None
        tags = {
            Tag.STUDY: self.settings.study,
            Tag.CELL: self.claim.config.cell_hash,
            Tag.KIND: "trial",
        }
        known = {record.run_id for record in self.queue.records()}  # a search may try a point twice
        with suppress(UnavailableError):
            found = self.tracker.find_runs(self.tracker.experiment(experiment), tags)
            return next((run_id for run_id in found if run_id not in known and self._is_left(run_id)), None)
        return None

    def _is_left(self, run_id: str) -> bool:
        """Return whether a run did not end by itself, as those of a deleted study of the same name have."""
        run = self.tracker.record(run_id)
        ended = run.tags.get(Tag.OUTCOME, Outcome.KILLED) != Outcome.KILLED
        return run.status is not RunStatus.FINISHED and not ended

    def _started(self, run: Run) -> None:
        if self.claim.earlier_error:  # `Tag.ERROR` would say that this attempt has failed
            run.set_tags({Tag.EARLIER_ERROR: self.claim.earlier_error})
            run.remove_tags([Tag.ERROR])
        self.queue.note_trial(self.claim.trial_id, TrialKey.RUN_ID, run.run_id)

    def _epoch_ended(self, result: EpochResult) -> None:
        monitored = result.metrics.get(self.claim.config.monitor)
        if monitored is not None:
            self.queue.report(self.claim.trial_id, result.epoch, monitored)
        self.emit(EpochEnded(self.claim.number, result.epoch, result.metrics))

    def _should_prune(self) -> bool:
        return self.searcher is not None and self.searcher.prunes(self.claim.trial_id)

    def _complete(self, result: TrialResult) -> None:
        facts = {
            TrialKey.OUTCOME: str(result.outcome),
            **result.metrics(),
            TrialKey.PARAMS: result.summary.params,
        }
        self.queue.note_facts(self.claim.trial_id, facts)
        if self.searcher is not None:
            self._tell(self.searcher, result)
        elif result.outcome is Outcome.PRUNED:  # a user has ended it
            self.queue.prune(self.claim.trial_id, result.value)
        else:
            self.queue.complete(self.claim.trial_id, result.value)
        self.emit(TrialEnded(self.claim.number, self.claim.label, result.outcome, result.value))

    def _tell(self, searcher: Searcher, result: TrialResult) -> None:
        pruned = result.outcome is Outcome.PRUNED and not searcher.has_several_objectives
        values = searcher.finish(self.claim.trial_id, result, pruned=pruned)
        if pruned:
            self.queue.prune(self.claim.trial_id, values[0])
        else:
            self.queue.complete(self.claim.trial_id, *values)

    def _fail(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        facts = {TrialKey.OUTCOME: str(Outcome.FAILED), TrialKey.ERROR: reason[:1000]}
        self.queue.note_facts(self.claim.trial_id, facts)
        self.queue.fail(self.claim.trial_id)
        self.emit(TrialEnded(self.claim.number, self.claim.label, Outcome.FAILED, error=reason))


def _check_installed(config: TrialConfig) -> None:
    """Check that this machine has the packages of lab's extras that a trial needs.

    Raises:
        StudyError: one is missing, which is no fault of the trial.
    """
    try:
        check_installed(config)
    except LabError as error:
        raise StudyError(str(error)) from None


def _load(config: TrialConfig) -> None:
    """Load the data that training will find loaded; training explains whatever is wrong with data that is there.

    Raises:
        MissingDataError: there is none.
    """
    try:
        load_data(config, device=resolve_device(config))
    except MissingDataError:
        raise
    except Exception:  # noqa: BLE001  # it recurs where it can be told
        return


@contextmanager
def _settling(hold: Hold) -> Iterator[None]:
    """Wrap what tells the study how a trial ended; raise `Lost` if it is no longer this worker's."""
    hold.confirm(anew=True)
    hold.settle()
    with _losing(hold):
        yield


@contextmanager
def _losing(hold: Hold) -> Iterator[None]:
    """Raise `Lost` if the study says that another process has ended the trial."""
    try:
        yield
    except UpdateFinishedTrialError:
        hold.lose()
        raise Lost from None
