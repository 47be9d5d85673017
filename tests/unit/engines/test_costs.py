"""What a sweep would take: the arithmetic, and which trials are timed."""

from __future__ import annotations

from itertools import islice

import pytest

from lab.config import TrialConfig, workload
from lab.data import Sizes
from lab.engines import CellCost, Estimate
from lab.engines.costs import _spread
from lab.objective import Pace

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
