"""Workers of a cluster: what one bad node means to a sweep and to a service, and what they say of their engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from lab.config import Grid
from lab.engines import Progress, Stores, serve, setbacks, submit, supervisor, sweep
from lab.engines.inline import InlineLauncher
from lab.engines.launcher import Exited
from lab.engines.seats import Seat
from lab.errors import LabError
from lab.study import Event, WorkerFailed, WorkerSettings, find_queue

MakeGrid = Callable[..., Grid]
SAID = "cluster 7: 1 running"
BAD = "Node n7 has lab 0.0, but login1, where this was started, has 0.1"


class Sick(InlineLauncher):
    """Workers in this process; the first ones find that their node is not fit."""

    def __init__(self, sick: int) -> None:
        super().__init__()
        self._sick = sick
        self._ended: list[int] = []

    def start(self, settings: WorkerSettings, seat: Seat) -> int:
        if not self._sick:
            return super().start(settings, seat)
        self._sick -= 1
        self._started += 1
        self._ended.append(self._started - 1)
        return self._started - 1

    def listen(self, timeout: float) -> Iterator[tuple[int, Event | Exited]]:
        for number in self._ended:
            yield number, WorkerFailed(BAD)
            yield number, Exited(0)
        self._ended.clear()
        yield from super().listen(timeout)

    def notes(self) -> Sequence[str]:
        return [SAID]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setbacks, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "_FIRST_REST", 0.0)


def test_one_bad_node_does_not_end_a_sweep_and_is_told(stores: Stores, make_grid: MakeGrid) -> None:
    shown: list[str] = []
    noted: list[str] = []

    def look(progress: Progress) -> None:
        shown.extend(progress.notes)
        queue = find_queue(stores.storage, "tiny")
        noted.extend([] if queue is None else queue.record().engine_says)

    result = sweep(make_grid(), stores, workers=1, launcher=Sick(2), elsewhere=True, on_progress=look)
    assert (result.ending, result.states) == ("done", {"complete": 3})
    assert {SAID, BAD} <= set(shown)
    assert any(line.startswith(SAID) for line in noted)
    queue = find_queue(stores.storage, "tiny")
    assert queue is not None
    assert queue.record().engine_says == []  # it was taken back at the end


def test_a_cluster_of_bad_nodes_ends_it_and_so_does_one_on_this_machine(
    stores: Stores, make_grid: MakeGrid
) -> None:
    with pytest.raises(LabError, match=f"^{BAD}$"):
        sweep(make_grid(), stores, workers=1, launcher=Sick(3), elsewhere=True)
    with pytest.raises(LabError, match=f"^{BAD}$"):
        sweep(make_grid(), stores, workers=1, launcher=Sick(1))


def test_a_service_passes_on_what_its_engine_says(stores: Stores, make_grid: MakeGrid) -> None:
    submit(make_grid(), stores)
    said: list[str] = []
    began = time.monotonic()
    served = serve(
        stores,
        workers=1,
        launcher=Sick(1),
        elsewhere=True,
        idle_exit=0,
        on_note=said.append,
        should_stop=lambda: time.monotonic() - began > 60,
    )
    assert said == [SAID]
    assert served.broken == {"tiny"}
