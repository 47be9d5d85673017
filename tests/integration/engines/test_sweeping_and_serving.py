"""Sweeps and services over workers in this process, on stand-in devices: what they share and what they do not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from lab.config import Grid, load_grid, parse_grid
from lab.engines import Progress, Stores, control, serve, submit, supervisor, sweep, watching
from lab.engines.devices import Device
from lab.engines.inline import InlineLauncher
from lab.engines.processes import ProcessLauncher
from lab.errors import ConfigError, ResourceError, StudyError
from lab.study import (
    DeletedError,
    Event,
    Submission,
    TrialEnded,
    TrialKey,
    TrialQueue,
    TrialStarted,
    find_queue,
    open_storage,
)
from lab.tracking import RunStatus, connect

MakeGrid = Callable[..., Grid]
GB = 10**9
BRIEF = "budget: {seconds: 0.001}"  # over when the first trial has begun


def queue_of(stores: Stores, study: str = "tiny") -> TrialQueue:
    queue = find_queue(stores.storage, study)
    assert queue is not None
    return queue


def states(queue: TrialQueue) -> list[str]:
    return sorted(queue.states().values())


def study_status(stores: Stores, study: str = "tiny") -> list[str]:
    tracker = connect(stores.tracking_uri)
    found: list[str] = tracker.runs(tracker.experiment(study), tags={"lab.kind": "study"})["status"].tolist()
    return found


def test_a_sweep_stops_starting_trials_when_its_time_is_up(stores: Stores, make_grid: MakeGrid) -> None:
    result = sweep(make_grid(more=BRIEF), stores, launcher=InlineLauncher())
    assert (result.ending, result.states) == ("out_of_time", {"complete": 1, "waiting": 2})
    assert study_status(stores) == ["KILLED"]
    again = sweep(make_grid(more=BRIEF), stores, launcher=InlineLauncher())
    assert (again.ending, again.states) == ("out_of_time", {"complete": 2, "waiting": 1})
    assert sweep(make_grid(), stores, launcher=InlineLauncher()).ending == "done"


def test_a_sweep_ends_once_too_many_cells_have_failed(stores: Stores, make_grid: MakeGrid) -> None:
    text = make_grid(more="max_failures: 1").text
    varied = text.replace("lr: [0.01, 0.02, 0.03]", "dataset: [synthetic, mnist], lr: [0.01, 0.02]")
    failing = parse_grid(varied, "tiny.yaml")  # MNIST is not here
    result = sweep(failing, stores, launcher=InlineLauncher())
    assert (result.ending, result.states) == ("too_many_failures", {"complete": 2, "failed": 1, "waiting": 1})
    assert study_status(stores) == ["FAILED"]
    again = sweep(failing, stores, launcher=InlineLauncher())
    assert (again.ending, again.states) == ("done", {"complete": 2, "failed": 2})


def test_a_sweep_counts_what_others_train(
    stores: Stores, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_RECOUNT_SECONDS", 0.0)
    monkeypatch.setattr(watching, "_REST_BESIDE_TRAINING", 0)
    submit(make_grid(), stores)
    other = queue_of(stores).claim()
    assert other is not None
    seen: set[tuple[int, int, int]] = set()
    result = sweep(
        make_grid(),
        stores,
        launcher=InlineLauncher(),
        on_progress=lambda now: seen.add((now.done, now.elsewhere, now.waiting)),
    )
    assert result.states == {"complete": 2, "running": 1}
    assert (2, 1, 0) in seen


def test_a_sweep_goes_on_if_its_counts_cannot_be_read(
    stores: Stores, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(queue: TrialQueue) -> Progress:
        raise StudyError(f"{queue.name} is away")

    monkeypatch.setattr(watching, "_RECOUNT_SECONDS", 0.0)
    monkeypatch.setattr(watching, "progress_of", away)
    assert sweep(make_grid(), stores, launcher=InlineLauncher()).states == {"complete": 3}


def test_a_study_that_another_program_deletes_ends_its_sweep_with_one_error_and_no_run_runs_on(
    stores: Stores, make_grid: MakeGrid
) -> None:
    deleted = False

    def delete(progress: Progress) -> None:
        nonlocal deleted
        if not deleted and any(trial.epoch for trial in progress.running.values()):
            deleted = True
            optuna.delete_study(study_name="tiny", storage=open_storage(stores.storage).url)

    with pytest.raises(DeletedError, match=r"no longer has this study, .* another program has deleted it"):
        sweep(make_grid(epochs=1000), stores, workers=1, launcher=ProcessLauncher(), on_progress=delete)
    assert deleted
    tracker = connect(stores.tracking_uri)
    runs = tracker.runs(tracker.experiment("tiny"))
    assert runs["status"].tolist() == ["KILLED"] * 2  # the study's, and that of its first trial
    assert sweep(make_grid(), stores, launcher=InlineLauncher()).states == {"complete": 3}


@pytest.mark.parametrize("concluded", [False, True])
def test_a_service_ends_the_run_of_a_study_that_another_program_deletes(
    stores: Stores, make_grid: MakeGrid, monkeypatch: pytest.MonkeyPatch, concluded: bool
) -> None:
    monkeypatch.setattr(supervisor, "_RESCUE_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "_LOOK_SECONDS", 0.0)
    submit(make_grid(), stores)
    while queue_of(stores).claim() is not None:  # others train all of it
        pass
    looks = 0

    def should_stop() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            if concluded:  # and the service has not seen it
                tracker = connect(stores.tracking_uri)
                tracker.attach(queue_of(stores).record().run_id).end(RunStatus.FINISHED)
            optuna.delete_study(study_name="tiny", storage=open_storage(stores.storage).url)
        return looks == 6

    assert study_status(stores) == ["RUNNING"]
    serve(stores, launcher=InlineLauncher(), should_stop=should_stop)
    assert study_status(stores) == ["FINISHED" if concluded else "KILLED"]


def test_a_study_is_trained_after_those_that_it_needs_also_where_others_train_these(
    stores: Stores, make_grid: MakeGrid, tmp_path: Path
) -> None:
    first = make_grid("first")
    (tmp_path / "first.yaml").write_text(first.text)
    (tmp_path / "second.yaml").write_text(make_grid("second", more="needs: [first.yaml]").text)
    submit(first, stores)
    queue = queue_of(stores, "first")
    others = queue.claim()
    assert others is not None
    seen: list[tuple[str, bool]] = []

    def plan(submission: Submission, progress: Progress) -> None:
        seen.append((submission.queue.name, queue.is_over()))

    def look(progress: Progress) -> None:
        if (
            queue.states()[others.config.cell_hash] == "running"
            and not queue.waits()
            and not progress.running
        ):
            queue.complete(others.trial_id, 0.5)

    second = load_grid(tmp_path / "second.yaml")
    sweep(second, stores, launcher=InlineLauncher(), on_plan=plan, on_progress=look)
    assert seen == [("first", False), ("second", True)]


@pytest.mark.parametrize("end", ["stop", "cancel"])
def test_the_run_of_a_trial_whose_worker_died_ends_with_it(
    stores: Stores, make_grid: MakeGrid, end: str
) -> None:
    submit(make_grid(), stores)
    queue, tracker = queue_of(stores), connect(stores.tracking_uri)
    claim = queue.claim()
    assert claim is not None
    tags = {"lab.study": "tiny", "lab.kind": "trial", "lab.cell": claim.config.cell_hash}
    run = tracker.open_run(name=claim.label, experiment=tracker.experiment("tiny"), tags=tags)
    queue.note_trial(claim.trial_id, TrialKey.RUN_ID, run.run_id)
    queue.note_trial(claim.trial_id, TrialKey.WORKER, f"{socket.gethostname()}:4000000:1.00")
    if end == "stop":
        control.stop(queue, stores, [claim.config.cell_hash])
    else:
        control.cancel(queue, stores)
    assert tracker.status(run.run_id) == RunStatus.KILLED


def test_a_retry_does_not_set_the_run_of_a_cancelled_study_running(
    stores: Stores, make_grid: MakeGrid
) -> None:
    submit(make_grid(), stores)
    queue = queue_of(stores)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, TrialKey.OUTCOME, "failed")
    queue.fail(claim.trial_id)
    control.cancel(queue, stores)
    assert control.retry(queue, stores).changed == 1
    assert study_status(stores) == ["KILLED"]


def test_a_service_honours_the_time_of_a_submitted_study_and_concludes_it(
    stores: Stores, make_grid: MakeGrid
) -> None:
    submit(make_grid(more=BRIEF), stores)
    submit(make_grid(name="free"), stores)
    served = serve(stores, launcher=InlineLauncher(), idle_exit=0)
    assert (served.done, served.failed, served.broken) == (4, 0, set())
    queue = queue_of(stores)
    assert states(queue) == ["complete", "waiting", "waiting"]
    assert queue.held_back() == "out_of_time"
    assert queue.record().concluded
    assert (study_status(stores), study_status(stores, "free")) == (["KILLED"], ["FINISHED"])
    submit(make_grid(more=BRIEF), stores)  # gives it that time again
    assert serve(stores, launcher=InlineLauncher(), idle_exit=0).done == 1
    assert states(queue) == ["complete", "complete", "waiting"]


def test_a_service_tells_what_happens_in_order(stores: Stores, make_grid: MakeGrid) -> None:
    submit(make_grid(), stores)
    heard: list[tuple[str, Event]] = []
    serve(
        stores,
        studies=["tiny"],
        launcher=InlineLauncher(),
        idle_exit=0,
        on_event=lambda queue, event: heard.append((queue.name, event)),
    )
    kinds = [type(event) for _, event in heard if isinstance(event, TrialStarted | TrialEnded)]
    assert kinds == [TrialStarted, TrialEnded] * 3
    assert {name for name, _ in heard} == {"tiny"}


def test_a_broken_study_is_told_once_and_keeps_no_other_from_being_trained(
    stores: Stores, make_grid: MakeGrid
) -> None:
    submit(make_grid(more="gpu_memory: 16GB"), stores)
    submit(make_grid(name="well"), stores)
    troubles: list[str] = []
    launcher = InlineLauncher((Device("0", 8 * GB),))
    served = serve(stores, launcher=launcher, idle_exit=3, on_trouble=troubles.append)
    assert states(queue_of(stores, "well")) == ["complete"] * 3
    assert states(queue_of(stores)) == ["waiting"] * 3
    (trouble,) = troubles
    assert trouble.startswith("tiny: gpu_memory: a trial needs 16 GB, but GPU 0 has 8 GB.")
    assert trouble.endswith("It is tried again later; other studies continue")
    assert (served.done, served.broken, served.in_vain) == (3, {"tiny"}, False)


def test_a_sweep_that_no_gpu_is_large_enough_for_queues_nothing(stores: Stores, make_grid: MakeGrid) -> None:
    launcher = InlineLauncher((Device("0", 8 * GB), Device("1", 12 * GB)))
    with pytest.raises(ResourceError, match=r"a trial needs 16 GB, but GPU 0 has 8 GB, GPU 1 has 12 GB"):
        sweep(make_grid(more="gpu_memory: 16GB"), stores, launcher=launcher)
    with pytest.raises(ResourceError, match=r"a trial needs 20 GB"):
        sweep(make_grid(), stores, launcher=launcher, gpu_memory=20 * GB)
    with pytest.raises(ConfigError, match="give only one of them"):
        sweep(make_grid(), stores, launcher=launcher, gpu_memory=GB, workers_per_gpu=2)
    assert find_queue(stores.storage, "tiny") is None


def test_a_sweep_shares_gpus(stores: Stores, make_grid: MakeGrid) -> None:
    class Counting(InlineLauncher):
        most = 0

        def start(self, *args: object) -> int:
            number = super().start(*args)  # type: ignore[arg-type]
            Counting.most = max(Counting.most, len(self))
            return number

    launcher = Counting((Device("0", 8 * GB),))
    result = sweep(make_grid(epochs=8), stores, launcher=launcher, workers_per_gpu=2)
    assert result.states == {"complete": 3}
    assert Counting.most == 2
