"""What a sweep would take, timed on trials in miniature."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from lab.config import TrialConfig, parse_grid
from lab.data import Sizes, expected_sizes, stand_in
from lab.engines import Stores, estimate, submit
from lab.objective import rehearse
from lab.study import TrialQueue
from lab.study.search.searcher import StudySearch
from lab.tracking import MemoryTracker
from lab.training import resolve_device

SMALL = {"dataset": "synthetic", "image_size": 8, "width": 4, "depth": 1, "batch_size": 256, "threads": 1}


def test_a_trial_in_miniature_on_random_images() -> None:
    config = TrialConfig(**{**SMALL, "lr": 1e6})  # such a trial diverges, which takes no time
    assert expected_sizes(config) == Sizes(1800, 200, 333)
    data = stand_in(config, 600, resolve_device(config))
    assert (data.shape, len(data.classes)) == ((3, 8, 8), 10)
    tracker = MemoryTracker()
    pace = rehearse(config, data, tracker, seconds=60.0)
    assert pace.image > 0
    assert pace.evaluated >= 0
    assert pace.around > 0
    assert len(tracker.find_runs(None, {})) == 1
    slow = rehearse(config, data, tracker, seconds=0.0)  # a step that takes too long is all that is timed
    assert (slow.around, slow.evaluated) == (0.0, pytest.approx(slow.image / 3))


def test_a_net_that_diverges_at_its_first_step_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda *args: forward(*args) * 1e38 * 1e38)
    config = TrialConfig(**SMALL)
    data = stand_in(config, 600, resolve_device(config))
    pace = rehearse(config, data, MemoryTracker(), seconds=60.0)
    assert pace.image > 0


def test_a_search_has_the_trials_of_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_DATA_DIR", str(tmp_path / "none"))
    grid = parse_grid(
        "name: s\nbase: {dataset: mnist, epochs: 1, patience: none, width: 4, depth: 1}\n"
        "search: {sampler: random, space: {lr: {low: 0.1, high: 0.2}}}\nbudget: {trials: 8}\n"
    )
    found = estimate(grid, Stores(), workers=2)
    assert (found.trials, found.workers, found.kinds) == (8, 2, 1)
    assert found.costs[0].seconds * 8 / 3600 <= found.hours[1]
    assert found.random_data == ["mnist"]  # it is not here
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


@pytest.mark.parametrize(
    ("search", "left"), [("sampler: grid", 1), ("sampler: random, target: 0.9", 0), ("sampler: random", 1)]
)
def test_what_a_search_has_tried_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: str, left: int
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = parse_grid(
        f"name: s\nbase: {SMALL}\nsearch: {{{search}, space: {{lr: [0.1, 0.2, 0.3]}}}}\nbudget: {{trials: 3}}\n"
    )
    queue = submit(grid, Stores())[-1].queue
    finish(queue, 2)
    found = estimate(grid, Stores(), workers=1)
    assert (found.trials, [cost.how for cost in found.costs][:1]) == (left, ["finished trials"] * left)


def finish(queue: TrialQueue, trials: int) -> None:
    for _ in range(trials):
        claim = queue.claim(StudySearch(queue).prepare)
        assert claim is not None
        queue.complete(claim.trial_id, 0.95)
