"""One leaderboard of the cells of several studies, if they measure the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.report.sections.board import Board, BoardColumn, BoardRow, Choice, entry, spread_columns
from lab.report.sections.source import Source, column
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
    frame = pd.concat([source.cells.assign(study=source.study) for source in sources], ignore_index=True)
    frame = ranked(frame, "best_value", sources[0].descending)
    metric = sources[0].metric
    columns = tuple(_columns(metric, sources[0].descending, frame))
    rows = tuple(_row(metric, columns, row) for row in frame.to_dict("records"))
    names = tuple(source.study for source in sources)
    return Common(Board(columns, rows, (Choice("study", names),)), _data_note(sources))


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


def _data_note(sources: Sequence[Source]) -> str:
    """Return that the studies are of different data, if they are."""
    data = [
        (source.study, sorted({str(value) for value in column(source.runs, "params.dataset").dropna()}))
        for source in sources
    ]
    if len({tuple(found) for _, found in data}) < 2:
        return ""
    said = ", ".join(f"{study} on {' and '.join(found) or 'nothing yet'}" for study, found in data)
    return f"The studies are of different data ({said}), so their values do not say which model is better."
