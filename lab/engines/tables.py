"""A study's trials and curves written to files for other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import pandas as pd

from lab.engines.leaderboards import read_study
from lab.engines.stores import Stores
from lab.errors import LabError
from lab.files import check_folder, replacing
from lab.report import curve_table, trial_table, without_formulas
from lab.tracking import connect

__all__ = ["TABLES", "study_curves", "study_trials", "write_study"]

_WRITERS: Final[Mapping[str, Callable[[pd.DataFrame, Path], object]]] = {
    "csv": lambda frame, out: without_formulas(frame).to_csv(out, index=False),
    "parquet": lambda frame, out: frame.to_parquet(out, index=False),
}
#: The formats of `write_study`.
TABLES: Final = tuple(_WRITERS)


def study_trials(
    study: str, stores: Stores, *, of: Literal["newest", "all"] = "newest", metric: str = "best_value"
) -> pd.DataFrame:
    """Return `lab.report.trial_table` of a study, best first; the arguments are those of `lab.report.leaderboard`.

    Raises:
        StudyError: there is no such study, or none of its trials has such a metric.
    """
    read = read_study(study, stores)
    return trial_table(read.board(metric, repeats="each", of=of), read.found.runs)


def study_curves(study: str, stores: Stores, *, of: Literal["newest", "all"] = "newest") -> pd.DataFrame:
    """Return `lab.report.curve_table` of a study; the arguments and errors are those of `study_trials`."""
    return curve_table(connect(stores.tracking_uri, stores.artifact_dir), study_trials(study, stores, of=of))


def write_study(
    study: str,
    stores: Stores,
    form: str,
    out: Path,
    *,
    curves: bool = False,
    of: Literal["newest", "all"] = "newest",
) -> int:
    """Write the trials of a study, or their curves, to the file `out`; return how many rows it has.

    Args:
        study: its name.
        stores: where it is kept.
        form: one of `TABLES`.
        out: the file, which is replaced.
        curves: whether to write a row for each point of the curves instead of one for each trial.
        of: `all` includes the trials of earlier files and other settings.

    Raises:
        ConfigError: the folder of `out` does not exist.
        LabError: as `study_trials`, or the file cannot be written.
    """
    check_folder(out)
    frame = study_curves(study, stores, of=of) if curves else study_trials(study, stores, of=of)
    try:
        with replacing(out) as part:
            _WRITERS[form](frame, part)
    except OSError as error:
        raise LabError(f"Writing {out} failed: {error.strerror or error}") from None
    return len(frame)
