"""One leaderboard of the cells of several studies, if they measure the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.report.comparison import other_images
from lab.report.sections.board import Board, BoardColumn, BoardRow, Choice, entry, spread_columns
from lab.report.sections.source import Source
from lab.report.trials import ranked

__all__ = ["Common", "common"]

_COLUMNS = {
    "test_accuracy": ("test_accuracy", True),
    "params": ("Params", False),
    "seconds": ("Time", False),
}


@dataclass(frozen=True)
class Common:
    """The common leaderboard of several studies; None, and why, if they cannot be compared."""

    board: Board | None
    note: str


def common(sources: Sequence[Source]) -> Common:
    """Return the cells of all `sources` in one leaderboard."""
    kinds = {(source.metric, source.descending) for source in sources}
    if len(kinds) > 1:
        said = ", ".join(f"{source.study} by {source.metric}" for source in sources)
        return Common(
            None, f"There is no common leaderboard: the studies are ranked by different metrics ({said})."
        )
    different = _different_images(sources)
    if different:
        return Common(
            None, f"There is no common leaderboard: the studies are of different images ({different})."
        )
    frame = pd.concat([source.cells.assign(study=source.study) for source in sources], ignore_index=True)
    frame = ranked(frame, "best_value", sources[0].descending)
    metric = sources[0].metric
    columns = tuple(_columns(metric, sources[0].descending, frame))
    rows = tuple(_row(metric, columns, row) for row in frame.to_dict("records"))
    names = tuple(source.study for source in sources)
    return Common(Board(columns, rows, (Choice("study", names),)), "")


def _columns(metric: str, descending: bool, frame: pd.DataFrame) -> Iterator[BoardColumn]:
    yield BoardColumn("rank", "Rank")
    yield BoardColumn("study", "study", numeric=False)
    yield BoardColumn("name", "Cell", numeric=False)
    yield BoardColumn("best_value", metric, rises=descending)
    yield from spread_columns(frame)
    for name, (heading, rises) in _COLUMNS.items():
        yield BoardColumn(name, heading, rises=rises)


def _row(metric: str, columns: Sequence[BoardColumn], row: Mapping[Any, Any]) -> BoardRow:
    entries = tuple(entry(metric, column, row) for column in columns)
    return BoardRow(
        int(row["rank"]), str(row["name"]), str(row["run_id"]), entries, {"study": str(row["study"])}
    )


def _different_images(sources: Sequence[Source]) -> str:
    """Return how the images of the first study and of another differ, as `lab compare` says it, or an empty string."""
    known = [source for source in sources if len(source.runs)]
    for other in known[1:]:
        first = known[0]
        found = [
            f"{name}: {one} in {first.study} and {two} in {other.study}"
            for name, one, two in other_images(first.runs, other.runs, of_val=True)
        ]
        if found:
            return "; ".join(found)
    return ""
