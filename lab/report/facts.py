"""How the runs of a grid were made: data, machine, versions, and differences from the file."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lab.config import as_text
from lab.report.repeats import outcome_counts
from lab.report.results import GridResults
from lab.report.settings import changes, params_of
from lab.tracking.markup import code, literal
from lab.tracking.tags import Tag

__all__ = ["command", "facts"]

_VERSIONS = {
    "lab": Tag.VERSION,
    "python": Tag.PYTHON,
    "torch": Tag.TORCH,
    "torchvision": Tag.TORCHVISION,
    "mlflow": Tag.MLFLOW,
}
_STATED_ELSEWHERE = frozenset({"data_digest", "data_dir", "seed"})  # under other headings


def facts(results: GridResults) -> dict[str, str]:
    """Return facts about the runs by heading, without machine names or paths."""
    runs = results.runs
    found = {
        "Data": _data(runs),
        "Runs": _outcomes(runs),
        "Seeds": _values(runs, "params.seed"),
        "Machine": _machine(runs),
        "Software": _software(runs),
        "Code": ", ".join(commit[:12] for commit in _distinct(runs, f"tags.{Tag.COMMIT}")),
        "Differences from the file": "; ".join(_differences(results)),
        "Left out": _left_out(results),
        "To reproduce": code(command(results)),
    }
    return {heading: text for heading, text in found.items() if text}


def command(results: GridResults) -> str:
    """Return the command that repeats the runs: for the cells that were run, with the settings that all had changed."""
    found = [
        f"{name}={got}" for (name, _, got), n in _count_changes(results).items() if n == len(results.runs)
    ]
    folders = _folders(results.runs)
    if len(folders) == 1 and not results.grid.base.get("data_dir"):
        found.append(f"data_dir=path/to/{folders[0]}")
    given = [("--only", text) for text in _only(results)] + [("--set", text) for text in found]
    return shlex.join(["lab", "sweep", _shown(results.grid.file), *(part for pair in given for part in pair)])


def _only(results: GridResults) -> Iterator[str]:
    """Yield `lr=0.1,0.2` for each dimension if only some of its values were run."""
    for dimension in results.grid.space.dimensions:
        column = results.runs.get(f"params.{dimension.name}")
        if column is None or column.isna().any():  # --only would exclude cells without this dimension
            continue
        texts = [as_text(value) for value in dimension.candidates]
        run = [text for text in texts if (column == text).any()]
        if 0 < len(run) < len(texts):
            separator = ";" if any("," in text for text in run) else ","
            yield f"{dimension.name}={separator.join(run)}"


def _left_out(results: GridResults) -> str:
    if not results.left_out:
        return ""
    runs = "1 run" if results.left_out == 1 else f"{results.left_out:,} runs"
    return (
        f"{runs} of these cells with other settings{f' ({literal(results.other)})' if results.other else ''}"
    )


def _data(runs: pd.DataFrame) -> str:
    folders = ", ".join(map(code, _folders(runs)))
    images = _values(runs, f"tags.{Tag.IMAGES}")
    parts = [_values(runs, "params.dataset"), f"folder {folders}" if folders else "", images]
    return "; ".join(part for part in parts if part)


def _folders(runs: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(Path(folder).name for folder in _distinct(runs, "params.data_dir")))


def _outcomes(runs: pd.DataFrame) -> str:
    column = runs.get(f"tags.{Tag.OUTCOME}", pd.Series(None, index=runs.index, dtype="object"))
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in outcome_counts(column).items())
    first, last = runs["start_time"].min(), runs["end_time"].fillna(runs["start_time"]).max()
    days = dict.fromkeys((f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"))
    return f"{len(runs)} ({outcomes}), {' to '.join(days)}"


def _machine(runs: pd.DataFrame) -> str:
    devices = ", ".join(_distinct(runs, f"tags.{Tag.CPU}") + _distinct(runs, f"tags.{Tag.DEVICE}"))
    threads = _values(runs, f"tags.{Tag.THREADS}")
    return "; ".join(part for part in (devices, f"threads per trial: {threads}" if threads else "") if part)


def _software(runs: pd.DataFrame) -> str:
    versions = {name: _values(runs, f"tags.{tag}") for name, tag in _VERSIONS.items()}
    return ", ".join(f"{name} {text}" for name, text in versions.items() if text)


def _values(runs: pd.DataFrame, column: str) -> str:
    return ", ".join(_distinct(runs, column))


def _distinct(runs: pd.DataFrame, column: str) -> list[str]:
    if column not in runs:
        return []
    found = {str(value) for value in runs[column].dropna()}
    return sorted(found, key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))


def _differences(results: GridResults) -> Iterator[str]:
    for (name, expected, got), n in _count_changes(results).items():
        share = "" if n == len(results.runs) else f" (in {n} of {len(results.runs)} runs)"
        yield literal(f"{name} {got}{f' instead of {expected}' if expected else ''}{share}")


def _count_changes(results: GridResults) -> Counter[tuple[str, str, str]]:
    """Count the runs by difference: setting, value in the file ('' if it has none) and value in the run."""
    found: Counter[tuple[str, str, str]] = Counter()
    for run in results.runs.to_dict("records"):
        expected = results.expected[run["run_id"]]
        for name, got in changes(params_of(run), expected).items():
            if name not in _STATED_ELSEWHERE:
                found[name, expected.get(name, ""), got] += 1
    return found


def _shown(file: str) -> str:
    """Return the relative path of a file below the working directory, and only the name of any other."""
    path = Path(os.path.relpath(file)) if Path(file).is_absolute() else Path(file)
    return path.name if ".." in path.parts else path.as_posix()
