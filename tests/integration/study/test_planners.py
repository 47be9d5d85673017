"""Several planners of one study at the same moment: each cell once, one study, one run."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from lab.config import parse_grid
from lab.errors import StudyError
from lab.study import TrialQueue, feasible_cells, open_storage, submit
from lab.study.lock import locked
from lab.tracking import MemoryTracker, connect

HEAD = "base: {dataset: synthetic, image_size: 8, width: 4, depth: 1, epochs: 1}\n"
RATES = [round(0.001 * number, 3) for number in range(1, 31)]
PLANNERS = 3
ROUNDS = 3


def grid_text(name: str, rates: list[float], activations: str = "[relu]") -> str:
    return f"name: {name}\n{HEAD}grid: {{lr: {rates}, activation: {activations}}}\n"


def plan_them(texts: list[str], url: str, tracking_uri: str, barrier: Any, results: Any) -> None:
    try:
        added, runs = [], []
        for text in texts:
            grid = parse_grid(text, "s.yaml")
            cells = feasible_cells(grid)
            barrier.wait(120)
            submission = submit(grid, cells, open_storage(url), connect(tracking_uri))
            added.append(submission.added)
            runs.append(submission.run.run_id)
        results.put((added, runs))
    except Exception as error:  # noqa: BLE001  # raised again by who started it
        barrier.abort()
        results.put(error)


def race(planners: list[list[str]], url: str, tracking_uri: str) -> list[tuple[list[int], list[str]]]:
    """Let each planner plan its texts, all of them at the same moments; return what each added, and the runs."""
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(len(planners)), context.Queue()
    processes = [
        context.Process(target=plan_them, args=(texts, url, tracking_uri, barrier, results))
        for texts in planners
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=200) for _ in planners]
    for process in processes:
        process.join()
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found


@pytest.fixture
def tracking_uri(tmp_path: Path, fresh_databases: Path) -> str:
    shutil.copy(fresh_databases / "mlflow.db", tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def cells_of(url: str, name: str) -> Counter[str]:
    return Counter(trial.user_attrs["lab:cell"] for trial in TrialQueue(open_storage(url), name).trials())


def test_planners_of_new_studies_queue_each_cell_once(bare_url: str, tracking_uri: str) -> None:
    names = [f"s{number}" for number in range(ROUNDS)]  # the first in a database without tables
    found = race([[grid_text(name, RATES) for name in names]] * PLANNERS, bare_url, tracking_uri)
    tracker = connect(tracking_uri)
    for number, name in enumerate(names):
        assert set(cells_of(bare_url, name).values()) == {1}
        assert len(cells_of(bare_url, name)) == len(RATES) == sum(added[number] for added, _ in found)
        assert len({runs[number] for _, runs in found}) == 1
        assert len(tracker.find_runs(tracker.experiment(name), {"lab.kind": "study"})) == 1
        numbers = [trial.number for trial in TrialQueue(open_storage(bare_url), name).trials()]
        assert numbers == list(range(len(RATES)))


def test_planners_of_a_known_study_that_grows_by_different_cells(url: str, tracking_uri: str) -> None:
    known = grid_text("s", RATES[:10])
    grown = [grid_text("s", RATES[:20], "[relu, tanh]"), grid_text("s", RATES[5:30], "[relu, gelu]")]
    found = race([[known, text] for text in grown], url, tracking_uri)
    cells = cells_of(url, "s")
    assert set(cells.values()) == {1}
    assert len(cells) == 30 + 20 + 25 == sum(sum(added) for added, _ in found)


def test_lost_cells_are_queued_again_once(url: str, tracking_uri: str) -> None:
    text = grid_text("s", RATES[:5])
    grid = parse_grid(text, "s.yaml")
    queue = submit(grid, feasible_cells(grid), open_storage(url), connect(tracking_uri)).queue
    for claim in iter(queue.claim, None):
        queue.fail(claim.trial_id)  # without an outcome, and without a successor: the process died in between
    race([[text]] * PLANNERS, url, tracking_uri)
    states = Counter((trial.user_attrs["lab:cell"], trial.state) for trial in queue.trials())
    assert set(states.values()) == {1}
    assert Counter(state for _, state in states) == {TrialState.FAIL: 5, TrialState.WAITING: 5}


def test_workers_claim_while_cells_are_still_queued(url: str) -> None:
    decays = [round(0.001 * number, 3) for number in range(10)]  # more cells than are queued at once
    text = f"name: s\n{HEAD}grid: {{lr: {RATES}, weight_decay: {decays}}}\n"
    grid, storage, claimed = parse_grid(text, "s.yaml"), open_storage(url), []

    def claim(done: int, total: int) -> None:
        if done:
            found = TrialQueue(storage, "s").claim()
            claimed.append(found.number if found else None)

    submit(grid, feasible_cells(grid), storage, MemoryTracker(), claim)
    assert claimed == [0]


def hold(url: str, held: Any) -> None:
    with locked(open_storage(url).engine, "x"):
        held.set()
        held.wait()
        multiprocessing.Event().wait()


def test_a_holder_that_is_killed_holds_nothing(url: str) -> None:
    open_storage(url)
    context = multiprocessing.get_context("forkserver")
    held = context.Event()
    process = context.Process(target=hold, args=(url, held))
    process.start()
    assert held.wait(120)
    process.kill()
    with locked(open_storage(url).engine, "x"):
        process.join()


def test_a_cancelled_study_takes_no_cells(url: str) -> None:
    storage, tracker = open_storage(url), MemoryTracker()
    grid = parse_grid(grid_text("s", RATES[:2]), "s.yaml")
    queue = submit(grid, feasible_cells(grid), storage, tracker).queue
    queue.note("cancelled", True)
    assert queue.claim() is None
    assert list(queue.states().values()) == ["cancelled"] * 2
    with pytest.raises(StudyError, match="'s' was cancelled; `lab resume s` resumes it"):
        submit(grid, feasible_cells(grid), storage, tracker)
