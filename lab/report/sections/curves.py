"""Learning curves of the best cells: the mean over their repeats, and the band from the lowest to the highest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.report.sections.source import Source
from lab.tracking import Tracker
from lab.wording import counted

__all__ = ["Curve", "CurvePanel", "Curves", "curves"]

_MOST_CELLS = 6  # more curves cannot be told apart
_MOST_POINTS = 200  # of a curve
_LOSSES = ("train_loss", "val_loss")


@dataclass(frozen=True)
class Curve:
    """The curve of one cell: by step the mean, the lowest and the highest value of its `n` repeats.

    `place` is the cell's among those that are shown, from 0; it has the same colour in all panels.
    """

    place: int
    rank: int
    name: str
    n: int
    steps: tuple[int, ...]
    means: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]


@dataclass(frozen=True)
class CurvePanel:
    """The curves of one metric against its steps, which are epochs in lab; those of the best cell first."""

    metric: str
    curves: tuple[Curve, ...]
    step: str


@dataclass(frozen=True)
class Curves:
    """A panel for each metric, and a remark on which cells are shown and what a band is."""

    panels: tuple[CurvePanel, ...]
    note: str

    @property
    def cells(self) -> list[Curve]:
        """A curve of each cell that has one in any panel, the best cell first."""
        found = {curve.place: curve for panel in self.panels for curve in panel.curves}
        return [found[place] for place in sorted(found)]


def curves(source: Source, tracker: Tracker) -> Curves:
    """Return the learning curves of the best cells, read from `tracker`.

    Raises:
        TrackingError: the store fails.
    """
    places = source.best(_MOST_CELLS)
    members = {place: source.members(place) for place in places}
    run_ids = [run_id for ids in members.values() for run_id in ids]
    metrics = list(dict.fromkeys((source.metric, *_LOSSES)))
    read = _read(tracker, run_ids, metrics) if run_ids else {}
    panels = []
    step = "step" if source.trials.attrs["imported"] else "epoch"
    for metric in metrics:
        found = (
            _curve(source, place, [read.get((run_id, metric), {}) for run_id in ids])
            for place, ids in members.items()
        )
        drawn = tuple(curve for curve in found if len(curve.steps) > 1)
        if drawn:
            panels.append(CurvePanel(metric, drawn, step))
    repeated = any(len(ids) > 1 for ids in members.values())
    return Curves(tuple(panels), _note(source, len(places), repeated))


def _read(
    tracker: Tracker, run_ids: Sequence[str], metrics: Sequence[str]
) -> dict[tuple[str, str], dict[int, float]]:
    """Return the values by step of each run and metric."""
    found = tracker.curves(run_ids, metrics).groupby(["run_id", "metric"], sort=False)
    return {
        (str(run_id), str(metric)): dict(zip(points["step"], points["value"], strict=True))
        for (run_id, metric), points in found
    }


def _note(source: Source, shown: int, repeated: bool) -> str:
    of = f"The best {shown} of {counted(len(source.cells), 'cell')}. " if shown < len(source.cells) else ""
    band = (
        "Lines are means over the repeats, bands go from the lowest to the highest of them, "
        if repeated
        else ""
    )
    return of + (f"{band}as far as all repeats went." if repeated else "")


def _curve(source: Source, place: int, histories: Sequence[Mapping[int, float]]) -> Curve:
    row = source.cells.iloc[place]
    known = [history for history in histories if history]
    steps = _thinned(sorted(set.intersection(*(set(history) for history in known)))) if known else []
    values = [[history[step] for history in known] for step in steps]
    return Curve(
        place,
        int(row["rank"]),
        str(row["name"]),
        len(known),
        tuple(steps),
        tuple(math.fsum(each) / len(each) if all(map(math.isfinite, each)) else math.nan for each in values),
        tuple(map(min, values)),
        tuple(map(max, values)),
    )


def _thinned(steps: Sequence[int]) -> list[int]:
    """Return at most `_MOST_POINTS` of `steps`, evenly, with the first and the last."""
    if len(steps) <= _MOST_POINTS:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(at * last / (_MOST_POINTS - 1))] for at in range(_MOST_POINTS)]
