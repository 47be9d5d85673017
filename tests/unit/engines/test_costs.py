"""What a sweep would take: the arithmetic, and which trials are timed."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from lab.config import TrialConfig, parse_grid, workload
from lab.data import Sizes, expected_sizes, stand_in
from lab.engines import CellCost, Estimate, Stores, estimate
from lab.engines.costs import _spread
from lab.objective import Pace, rehearse
from lab.tracking import MemoryTracker
from lab.training import resolve_device

SMALL = {"dataset": "synthetic", "image_size": 8, "width": 4, "depth": 1, "batch_size": 256, "threads": 1}


def costs(*seconds: float) -> list[CellCost]:
    return [CellCost(f"cell {place}", each, each / 2, "timed") for place, each in enumerate(seconds)]


def test_the_free_worker_begins_the_next_trial() -> None:
    found = Estimate(4, costs(5.0, 1.0, 1.0, 4.0), workers=2, starting=10.0)
    assert found.wall_seconds == (10.0 + 3.0, 10.0 + 6.0)  # 5 beside 1 + 1 + 4
    assert found.hours == pytest.approx(((5.5 + 20) / 3600, (11 + 20) / 3600))
    assert [cost.seconds for cost in found.slowest] == [5.0, 4.0, 1.0]


def test_a_sample_stands_for_all_trials_and_a_gpu_is_shared() -> None:
    found = Estimate(100, costs(2.0, 4.0), workers=6, per_device=3, unit="GPU")
    assert found.hours[1] == pytest.approx(300 / 3600 / 3)
    assert found.wall_seconds[1] == pytest.approx(50)
    assert found.as_dict(price=2.0)["cost"]["at_most"] == pytest.approx(2 * 300 / 3600 / 3)
    assert found.as_dict()["gpu_hours"]["at_least"] == pytest.approx(150 / 3600 / 3)


def test_the_ends_are_timed_first_and_every_kind_once() -> None:
    assert list(islice(_spread(9), 5)) == [0, 8, 4, 2, 6]
    assert [list(_spread(count)) for count in (0, 1, 2)] == [[], [0], [0, 1]]
    assert sorted(_spread(100)) == list(range(100))


def test_only_what_takes_time_tells_work_apart() -> None:
    work = workload(TrialConfig(**SMALL))
    assert work == workload(TrialConfig(**SMALL, lr=0.5, seed=3, epochs=7, patience=None, scheduler="cosine"))
    different = [{"activation": "gelu"}, {"precision": "bf16"}, {"val_fraction": 0.3}, {"width": 8}]
    assert len({work, *(workload(TrialConfig(**{**SMALL, **each})) for each in different)}) == 5


def test_a_pace_counts_training_evaluations_and_what_is_around() -> None:
    pace, sizes = Pace(image=0.01, evaluated=0.001, around=2.0), Sizes(100, 20, 30)
    assert pace.seconds(TrialConfig(), sizes, 3) == pytest.approx(2 + 3 * (1 + 0.02) + 0.03)
    tested = TrialConfig(eval_test_every_epoch=True)
    assert pace.seconds(tested, sizes, 3) == pytest.approx(2 + 3 * (1 + 0.02 + 0.03) + 0.03)


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


def test_a_search_has_the_trials_of_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grid = parse_grid(
        "name: s\nbase: {dataset: mnist, epochs: 1, patience: none, width: 4, depth: 1}\n"
        "search: {sampler: random, space: {lr: {low: 0.1, high: 0.2}}}\nbudget: {trials: 8}\n"
    )
    found = estimate(grid, Stores(), workers=2)
    assert (found.trials, found.workers, found.kinds) == (8, 2, 1)
    assert found.costs[0].seconds * 8 / 3600 <= found.hours[1]
    assert found.random_data == ["mnist"]  # it is not here
    assert not list(tmp_path.iterdir())
