"""What the best model gets wrong: its confusion matrix and the pairs of classes that it confuses most."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.report.sections.source import Source
from lab.tracking import Tracker

__all__ = ["Confused", "Mistakes", "mistakes"]

_MOST_CLASSES = 100  # in a matrix that can be read
_MOST_PAIRS = 10


@dataclass(frozen=True)
class Confused:
    """How many images of the class `true` were taken for `predicted`; `share` is of all images of `true`."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Mistakes:
    """Of the best run that has kept its errors.

    Attributes:
        name: of the run's cell.
        run_id: of the run.
        classes: names; empty if there are too many to draw.
        counts: images by true class and predicted class; empty likewise.
        pairs: the most confused pairs, the most frequent first.
        images: number of test images.
    """

    name: str
    run_id: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    pairs: tuple[Confused, ...]
    images: int


def mistakes(source: Source, tracker: Tracker) -> Mistakes | None:
    """Return the mistakes of the best cell's best run, None if it has not kept them.

    Raises:
        TrackingError: the store fails.
    """
    if source.finished.empty:
        return None
    best = source.finished.iloc[0]
    run_id = str(best["run_id"])
    with tempfile.TemporaryDirectory() as folder:
        matrix = tracker.download(run_id, "errors/confusion.csv", Path(folder))
        if matrix is None:
            return None
        pairs = tracker.download(run_id, "errors/most_confused.json", Path(folder))
        classes, counts = _matrix(matrix)
        images = sum(map(sum, counts))
        shown = len(classes) <= _MOST_CLASSES
        return Mistakes(
            str(best["name"]),
            run_id,
            classes if shown else (),
            counts if shown else (),
            _pairs(pairs),
            images,
        )


def _matrix(file: Path) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    with file.open(encoding="utf-8", newline="") as lines:
        (_, *classes), *rows = csv.reader(lines)
    return tuple(classes), tuple(tuple(map(int, row[1:])) for row in rows)


def _pairs(file: Path | None) -> tuple[Confused, ...]:
    if file is None:
        return ()
    found = json.loads(file.read_text(encoding="utf-8"))[:_MOST_PAIRS]
    return tuple(
        Confused(str(pair["true"]), str(pair["predicted"]), int(pair["count"]), float(pair["share"]))
        for pair in found
    )
