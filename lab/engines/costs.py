"""What a sweep of a grid would take, before anything is spent.

Cells that are the same work (see `lab.config.workload`) take what finished trials of the study took, if it has some.
Otherwise a trial in miniature is timed, of as many kinds of work as there is time for, from the smallest to the
largest net; what lies between two nets takes a time between theirs.
"""

from __future__ import annotations

import heapq
import math
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lab.config import Grid, TrialConfig, parse_config, workload
from lab.data import Dataset, Sizes, data_settings, describe, expected_sizes, load_data, settled, stand_in
from lab.engines.devices import devices_here
from lab.engines.preview import plan_grid
from lab.engines.seats import Sharing
from lab.engines.stores import Stores, tracking
from lab.errors import ConfigError, DataError
from lab.models import summarize_config
from lab.objective import Pace, rehearse
from lab.places import sqlite_address
from lab.study import Forecast, State, TrialQueue, feasible_cells, find_queue, is_exhausted
from lab.tracking import Tracker, prepare
from lab.training import resolve_device

__all__ = ["CellCost", "Estimate", "estimate"]

_MOST_CELLS = 1000  # planned; of a larger grid a sample
_TIMED_SECONDS = 10.0  # after which no other kind of work is timed
_EACH_SECONDS = 1.0  # for the steps of one kind
_READ_BYTES = 500e6  # of pixels; a larger dataset takes too long to read for this
_RANDOM_IMAGES = 2048
_SLOWEST = 3
_ENDED = (State.COMPLETE, State.PRUNED, State.FAILED, State.DELETED)  # a sweep leaves them alone

How = Literal["finished trials", "timed", "between timed"]


@dataclass(frozen=True)
class CellCost:
    """What a trial takes: `seconds` if it has all its epochs, `least` if its patience ends it as early as it can."""

    label: str
    seconds: float
    least: float
    how: How


@dataclass(frozen=True)
class Estimate:
    """What the trials take that a sweep would train now.

    Attributes:
        trials: how many these are.
        costs: of each of them, or of a sample.
        workers: how many train at once.
        per_device: of these, how many share a GPU; 1 without GPUs, where each has a core.
        unit: `GPU` or `core`.
        starting: seconds in which a worker begins, mostly to read the data.
        timed: how many kinds of work were timed.
        kinds: how many there are.
        random_data: the datasets that were timed on random images, because they are not here or are large.
    """

    trials: int
    costs: Sequence[CellCost]
    workers: int = 1
    per_device: int = 1
    unit: str = "core"
    starting: float = 0.0
    timed: int = 0
    kinds: int = 0
    random_data: Sequence[str] = ()

    @property
    def hours(self) -> tuple[float, float]:
        """Hours of a core, or of a GPU where there is one: at least, and with all epochs."""
        least, most = self._total([cost.least for cost in self.costs]), self._total(self._seconds)
        per_hour = 3600 * self.per_device
        return (least + self._started) / per_hour, (most + self._started) / per_hour

    @property
    def wall_seconds(self) -> tuple[float, float]:
        """Seconds from the first trial's beginning to the last one's end: at least, and with all epochs."""
        return self._wall([cost.least for cost in self.costs]), self._wall(self._seconds)

    @property
    def slowest(self) -> list[CellCost]:
        """The few trials that take longest, one of each time."""
        by_time = {cost.seconds: cost for cost in reversed(self.costs)}
        return heapq.nlargest(_SLOWEST, by_time.values(), key=lambda cost: cost.seconds)

    def as_dict(self, price: float | None = None) -> dict[str, Any]:
        """Return it as plain values; `price` is that of an hour of a core or GPU."""
        names = ("at_least", "at_most")
        found: dict[str, Any] = {
            "trials": self.trials,
            "workers": self.workers,
            f"{self.unit.lower()}_hours": dict(zip(names, self.hours, strict=True)),
            "wall_seconds": dict(zip(names, self.wall_seconds, strict=True)),
        }
        if price is not None:
            found["cost"] = dict(zip(names, (price * hours for hours in self.hours), strict=True))
        found["slowest"] = [{"label": cost.label, "seconds": cost.seconds} for cost in self.slowest]
        how = [cost.how for cost in self.costs]
        found["from"] = {name: how.count(name) for name in dict.fromkeys(how)}
        return {**found, "random_data": list(self.random_data)}

    @property
    def _seconds(self) -> list[float]:
        return [cost.seconds for cost in self.costs]

    @property
    def _started(self) -> float:
        return self.starting * min(self.workers, self.trials)

    def _total(self, seconds: Sequence[float]) -> float:
        return sum(seconds) / len(seconds) * self.trials if seconds else 0.0

    def _wall(self, seconds: Sequence[float]) -> float:
        if not seconds:
            return 0.0
        if len(seconds) < self.trials:  # a sample
            return self.starting + max(self._total(seconds) / self.workers, *seconds)
        ends = [self.starting] * self.workers
        for each in seconds:  # the next trial is begun by the worker that is free first
            heapq.heapreplace(ends, ends[0] + each)
        return max(ends)


def estimate(
    grid: Grid,
    stores: Stores,
    *,
    workers: int | None = None,
    on_timed: Callable[[int, int], None] = lambda done, kinds: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Estimate:
    """Return what the trials take that a sweep of `grid` would train now on this machine; takes seconds.

    Args:
        grid: from `load_grid`; the studies that it needs do not count.
        stores: with its study, if there is one.
        workers: how many train at once; as many as a sweep would start here if None.
        on_timed: called when a kind of work has been timed, with their number so far and how many there are.
        should_stop: asked at every step.

    Raises:
        LabError: a cell cannot be trained, or the study cannot be read.
        Interrupted: `should_stop` returned True.
    """
    trials, cells = _to_train(grid, stores)
    if not trials:
        return Estimate(0, [])
    sharing = Sharing(devices_here(), workers)
    seats = _seats(sharing, grid)
    gpus = sum(device.is_gpu for device in sharing.devices)
    costs = _Costs(stores, grid, on_timed, should_stop)
    each = costs.of(cells)
    return Estimate(
        trials,
        each,
        workers=seats,
        per_device=math.ceil(seats / gpus) if gpus else 1,
        unit="GPU" if gpus else "core",
        starting=costs.starting,
        timed=len(costs.paces),
        kinds=len(costs.kinds),
        random_data=sorted(costs.random_data),
    )


def _to_train(grid: Grid, stores: Stores) -> tuple[int, list[tuple[str, TrialConfig]]]:
    """Return how many trials a sweep would train, and label and config of each, or of a sample of them."""
    queue = None if grid.search is None else find_queue(stores.storage, grid.name)
    if queue is not None and is_exhausted(grid, queue):
        return 0, []
    if grid.search is not None and not grid.search.tries_every_point:
        ended = sum(state in _ENDED for state in queue.states().values()) if queue else 0
        left = max(0, (grid.budget.trials or 0) - ended)
        return left, [(cell.label, cell.config) for cell in feasible_cells(grid)] if left else []
    size = grid.space.size
    sample = sorted(random.Random(0).sample(range(size), _MOST_CELLS)) if size > _MOST_CELLS else None
    planned = (cell for cell in plan_grid(grid, stores, sample).cells if cell.feasible)
    tried = set(_tried(queue)) if queue else ()
    waiting = [
        (cell.label, cell.config)
        for cell in islice(planned, None if sample else grid.budget.trials)
        if cell.config is not None and cell.state not in _ENDED and cell.hash not in tried
    ]
    found = len(waiting) if sample is None else round(len(waiting) * size / len(sample))
    return min(found, grid.budget.trials or found), waiting


def _tried(queue: TrialQueue) -> Iterator[str]:
    """Yield the hash of the config of each of a search's trials that have ended: its cells have names instead."""
    for record in queue.newest().values():
        if record.state in _ENDED and record.config is not None:
            with suppress(ConfigError):  # of plug-ins that the file no longer uses
                yield parse_config(record.config).cell_hash


def _seats(sharing: Sharing, grid: Grid) -> int:
    """Return how many workers a sweep has at once."""
    seats, shares = sharing.seats(), sharing.shares(grid.gpu_memory)
    taken = 0
    while seats.take(shares) is not None:
        taken += 1
    return max(1, taken)


@dataclass
class _Costs:
    """What trials take, and how that is known."""

    stores: Stores
    grid: Grid
    on_timed: Callable[[int, int], None]
    should_stop: Callable[[], bool]
    kinds: dict[str, TrialConfig] = field(default_factory=dict)  # one config of each kind of work
    paces: dict[str, Pace] = field(default_factory=dict)  # of those that were timed
    random_data: set[str] = field(default_factory=set)
    starting: float = 0.0
    _sizes: dict[object, Sizes] = field(default_factory=dict)

    def of(self, cells: Sequence[tuple[str, TrialConfig]]) -> list[CellCost]:
        """Return the costs of cells, given by label and config."""
        known = [self._forecast.like(config) if self._forecast else None for _, config in cells]
        self.kinds = {
            workload(config): config
            for (_, config), seconds in zip(cells, known, strict=True)
            if seconds is None
        }
        with _scratch_tracker() if self.kinds else nullcontext() as tracker:
            if tracker is not None:
                self._time_kinds(tracker)
        return [self._cost(*cell, seconds) for cell, seconds in zip(cells, known, strict=True)]

    @cached_property
    def _forecast(self) -> Forecast | None:
        queue = find_queue(self.stores.storage, self.grid.name)
        return None if queue is None else Forecast(queue)

    def _cost(self, label: str, config: TrialConfig, known: float | None) -> CellCost:
        if known is not None:
            return CellCost(label, known, known, "finished trials")
        kind, sizes = workload(config), self._sizes_of(config)
        pace = self.paces.get(kind)
        how: How = "between timed" if pace is None else "timed"
        pace = pace or self._between(kind)
        least = config.epochs if config.patience is None else min(config.epochs, config.patience + 1)
        return CellCost(
            label, pace.seconds(config, sizes, config.epochs), pace.seconds(config, sizes, least), how
        )

    def _time_kinds(self, tracker: Tracker) -> None:
        """Time the smallest kind of work, the largest, and then between them, until the time is up."""
        ordered = sorted(self.kinds, key=self._mult_adds.__getitem__)
        until = time.monotonic() + _TIMED_SECONDS
        for place in _spread(len(ordered)):
            if len(self.paces) > 1 and time.monotonic() > until:
                return
            kind = ordered[place]
            first = None if self.paces else self._rehearsed(kind, tracker)
            pace = self.paces[kind] = self._rehearsed(kind, tracker)
            if first is not None:  # a process's first trial takes longer: it imports and sets up
                self.starting += max(0.0, first.around - pace.around)
            self.on_timed(len(self.paces), len(ordered))

    def _rehearsed(self, kind: str, tracker: Tracker) -> Pace:
        config = self.kinds[kind]
        config = config.model_copy(update={"threads": config.threads or 1})  # as workers do
        data = self._data(config)
        return rehearse(config, data, tracker, seconds=_EACH_SECONDS, should_stop=self.should_stop)

    def _data(self, config: TrialConfig) -> Dataset:
        """Return the config's data, or random images in place of what is not here or takes long to read."""
        device, began = resolve_device(config), time.perf_counter()
        if not _is_large(config):
            try:
                found = load_data(config, device=device)
            except DataError:
                pass
            else:
                if _data_key(config) not in self._sizes:
                    self.starting += time.perf_counter() - began
                    self._sizes[_data_key(config)] = Sizes.of(found)
                return found
        self.random_data.add(config.dataset)
        return stand_in(config, max(_RANDOM_IMAGES, 2 * config.batch_size * config.accumulate), device)

    def _sizes_of(self, config: TrialConfig) -> Sizes:
        return self._sizes.get(_data_key(config)) or expected_sizes(config)

    def _between(self, kind: str) -> Pace:
        """Return the pace of work that was not timed: between the paces of what was, by its mult-adds."""
        timed = sorted(self.paces, key=self._mult_adds.__getitem__)
        sizes = [self._mult_adds[each] for each in timed]
        at = self._mult_adds[kind]

        def between(name: str) -> float:
            return float(np.interp(at, sizes, [getattr(self.paces[each], name) for each in timed]))

        return Pace(between("image"), between("evaluated"), between("around"))

    @cached_property
    def _mult_adds(self) -> Mapping[str, int]:
        return {kind: _mult_adds(config) for kind, config in self.kinds.items()}


@contextmanager
def _scratch_tracker() -> Iterator[Tracker]:
    """Yield a tracker like that of a worker, whose runs are thrown away: what it costs to track a trial counts."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        scratch = Stores(
            tracking_uri=sqlite_address(home / "mlflow.db"),
            artifact_dir=home / "artifacts",
            journal_dir=home / "journal",
        )
        prepare(scratch.tracking_uri)
        with tracking(scratch) as tracker:
            yield tracker


def _mult_adds(config: TrialConfig) -> int:
    info = describe(config)
    return summarize_config(config, info.shape, len(info.classes)).mult_adds


def _data_key(config: TrialConfig) -> object:
    split = (config.val_fraction, config.test_fraction, config.folds, config.train_samples)
    return (*data_settings(settled(config)), *split)


def _is_large(config: TrialConfig) -> bool:
    """Whether the data is read as a whole, and has too many pixels for that."""
    info = describe(config)
    read = config.data_in_memory is not False
    return read and (info.train_images or 0) * math.prod(info.shape) > _READ_BYTES


def _spread(count: int) -> Iterator[int]:
    """Yield 0, `count` - 1, and then the middle of each gap that is left, from the widest to the narrowest."""
    yield from dict.fromkeys((0, count - 1)) if count else ()
    gaps = deque([(0, count - 1)])
    while gaps:
        low, high = gaps.popleft()
        middle = (low + high) // 2
        if low < middle < high:
            yield middle
            gaps.extend([(low, middle), (middle, high)])
