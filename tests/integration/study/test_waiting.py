"""How many trials could start now: the same number from `lab status --waiting` and from KEDA's query."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner

from lab.cli import main
from lab.config import Grid
from lab.study import TrialQueue, feasible_cells, open_storage, requeue_failed, submit, waiting_trials
from lab.study.storage import PatientStorage
from lab.tracking import MemoryTracker

KEDA = Path(__file__).parents[3] / "docs" / "kubernetes" / "keda.yaml"


class Counts:
    """What is counted in a database, in each way there is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.storage: PatientStorage = open_storage(url)

    def submit(self, grid: Grid) -> TrialQueue:
        return submit(grid, feasible_cells(grid), self.storage, MemoryTracker()).queue

    def check(self, waiting: int, running: int = 0) -> None:
        """Check that so many trials wait that may start; the query for an autoscaler adds those that run."""
        assert waiting_trials(self.url) == waiting
        if self.storage.engine.dialect.name == "postgresql":
            with self.storage.engine.connect() as connection:
                assert int(connection.scalar(sa.text(keda_query())) or 0) == waiting + running


def keda_query() -> str:
    (query,) = (
        trigger["metadata"]["query"]
        for each in yaml.safe_load_all(KEDA.read_text(encoding="utf-8"))
        for trigger in each["spec"].get("triggers", ())
    )
    return str(query).replace("::", r"\:\:")  # SQLAlchemy's parameters begin with a colon


@pytest.fixture
def counts(url: str) -> Counts:
    return Counts(url)


def test_only_trials_that_may_start_are_counted(counts: Counts, make_grid: Callable[..., Grid]) -> None:
    counts.check(0)
    first, second = counts.submit(make_grid(name="first")), counts.submit(make_grid(name="second"))
    second.note("needs", ["first"])
    counts.check(4)
    claims = [first.claim() for _ in range(4)]
    counts.check(0, running=4)
    for claim in claims:
        assert claim is not None
        first.complete(claim.trial_id, 0.5)
    counts.check(4)
    second.cancel()
    counts.check(0)
    second.resume()
    counts.check(4)


def test_what_never_starts_is_not_counted(counts: Counts, make_grid: Callable[..., Grid]) -> None:
    queue = counts.submit(make_grid(name="first"))
    later = counts.submit(make_grid(name="later"))
    later.note("needs", ["first", "second"])
    queue.note("seconds", 60)
    counts.check(4)  # the clock has not begun
    for began, waiting in ((time.time(), 4), (time.time() - 61, 0), (None, 4)):
        queue.note("began", began)
        counts.check(waiting)
    claim = queue.claim()
    assert claim is not None
    queue.note_trial(claim.trial_id, "outcome", "failed")
    queue.fail(claim.trial_id)
    for most, waiting in ((2, 3), (1, 0), (None, 3)):
        queue.note("max_failures", most)
        counts.check(waiting)
    assert requeue_failed(queue) == 1
    queue.note("max_failures", 1)  # one is forgiven
    queue.note("search", {"a": 1, "b": [1, 2]})
    counts.check(4)
    queue.note("ended", {"b": [1, 2], "a": 1})
    counts.check(0)  # `later` also needs a study that is not there
    later.note("needs", ["first"])
    counts.check(4)
    later.note("needs", "first")  # malformed
    counts.check(0)


def test_other_programs_trials_and_a_study_that_cannot_be_read_are_not_counted(
    counts: Counts, make_grid: Callable[..., Grid]
) -> None:
    optuna.create_study(storage=counts.storage, study_name="theirs").enqueue_trial({"x": 1})
    queue = counts.submit(make_grid(name="first"))
    counts.check(4)
    optuna.load_study(storage=counts.storage, study_name="first").enqueue_trial({"x": 1})
    counts.check(4)
    queue.note("needs", "first")
    result = CliRunner().invoke(main, ["status", "--waiting", "--storage", counts.url])
    assert (result.exit_code, result.stdout) == (0, "0\n")
    assert "not counted: first: its attribute 'needs' is not a list of studies" in result.stderr


def test_of_one_study(counts: Counts, make_grid: Callable[..., Grid]) -> None:
    counts.submit(make_grid(name="first"))
    counts.submit(make_grid(name="second")).note("needs", ["first"])
    found: dict[str, Any] = {name: waiting_trials(counts.url, name) for name in ("first", "second")}
    assert found == {"first": 4, "second": 0}
    result = CliRunner().invoke(main, ["status", "second", "--waiting", "--storage", counts.url])
    assert result.stdout == "0\n"
    result = CliRunner().invoke(main, ["status", "third", "--waiting", "--storage", counts.url])
    assert (result.exit_code, result.stdout) == (1, "")
