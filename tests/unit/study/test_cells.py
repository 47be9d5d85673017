"""Cells found by what a user typed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.distributions import CategoricalDistribution

from lab.config import TrialConfig
from lab.errors import ConfigError, LabError, StudyError
from lab.study import TrialQueue, find_cells

MakeQueue = Callable[[int], TrialQueue]


@pytest.fixture
def queue(make_queue: MakeQueue) -> TrialQueue:
    """Three cells with lr from 0.001 to 0.003, one of a variant, and a draft."""
    queue = make_queue(3)
    labels = CategoricalDistribution(["plain", "deep"])
    queue.add(TrialConfig(lr=0.1, filters=(6, 16)), "deep", {"net": "deep"}, {"net": labels})
    queue.draft("slot-0")
    return queue


def found(queue: TrialQueue, *texts: str) -> list[str]:
    return [record.label for record in find_cells(queue.newest(), texts, "s")]


def test_by_settings_and_by_variants(queue: TrialQueue) -> None:
    assert found(queue, "lr=1e-3") == ["lr=0.001"]
    assert found(queue, "lr=0.002, 0.001") == ["lr=0.001", "lr=0.002"]
    assert found(queue, "lr=0.001,0.1", "optimizer=Adam") == ["lr=0.001", "deep"]  # a default counts
    assert found(queue, "batch-size=128") == ["lr=0.001", "lr=0.002", "lr=0.003", "deep"]
    assert found(queue, "net=deep") == found(queue, "filters=6,16") == ["deep"]


def test_by_hashes(queue: TrialQueue) -> None:
    first, second, *_ = queue.newest()
    assert found(queue, first[:9], second, first[:9]) == ["lr=0.001", "lr=0.002"]


def test_the_whole_name_of_a_searchs_trial_may_be_the_beginning_of_others(make_queue: MakeQueue) -> None:
    queue = make_queue(0)
    for number in range(12):
        queue.draft(f"slot-{number}")
    assert found(queue, "slot-1") == ["slot-1"]
    assert found(queue, "slot-11", "slot-2") == ["slot-11", "slot-2"]


@pytest.mark.parametrize(
    ("texts", "kind", "message"),
    [
        (["lr=0.5"], StudyError, "Study 's' has no such cell with lr=0.5; lr is 0.001, 0.002, 0.003, 0.1"),
        (["lr=0.001", "net=deep"], ConfigError, "--cell net: study 's' has no such setting"),
        (["lrr=1"], ConfigError, "--cell lrr: study 's' has no such setting. Did you mean 'lr'?"),
        (["lr=0.1", "81d0"], ConfigError, "takes hashes of cells or SETTING=VALUE, not both at once"),
        (["xyz"], StudyError, "Study 's' has no cell 'xyz'"),
        ([""], StudyError, "Study 's' has no cell ''"),
    ],
)
def test_what_names_no_cell(queue: TrialQueue, texts: list[str], kind: type[LabError], message: str) -> None:
    with pytest.raises(kind, match=message.replace("?", r"\?")):
        found(queue, *texts)
