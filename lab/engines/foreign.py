"""Runs of other programs, imported to be read next to one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.engines.stores import Stores
from lab.errors import ConfigError, StudyError
from lab.study import find_queue, optuna_study
from lab.tracking import ForeignStudy, as_shares, connect, keep_foreign, prepare, read_runs

__all__ = ["ImportedRuns", "import_runs"]

_OPTUNA = "optuna:"


@dataclass(frozen=True)
class ImportedRuns:
    """What an import came to: the study that the runs are in now, how many are new and how many it had."""

    study: str
    added: int
    known: int


def import_runs(
    source: str,
    stores: Stores,
    *,
    name: str | None = None,
    metrics: Sequence[str] = (),
    monitor: str | None = None,
    maximize: bool = True,
    percent: Sequence[str] = (),
) -> ImportedRuns:
    """Import the runs of another program that have ended and are not here yet; the source is only read.

    Args:
        source: `optuna:URL#STUDY`, where URL is a database's, or a CSV or JSON file: see `lab.tracking.read_runs`.
        stores: where they go.
        name: of the study that they make up; by default that of the source.
        metrics: of a file, the columns that are metrics.
        monitor: of a file, the metric that compares the runs.
        maximize: of a file, whether higher values of `monitor` are better.
        percent: metrics whose values are divided by 100.

    Raises:
        ConfigError: what only a file needs is given for a study of Optuna, which says itself what it optimizes; or an
            accuracy is above 1.
        LabError: the source cannot be read, or there is a study of that name that was trained here.
    """
    if source.startswith(_OPTUNA):
        if metrics or monitor or not maximize:
            raise ConfigError(
                "--metric, --monitor and --minimize are about a CSV file; a study of Optuna says itself what it "
                "optimizes"
            )
        url, _, chosen = source.removeprefix(_OPTUNA).partition("#")
        found: ForeignStudy = optuna_study(url, chosen or None)
        default = found.source.rpartition("#")[2]
    else:
        found = read_runs(Path(source), metrics, monitor, maximize=maximize)
        default = Path(source).stem
    found = as_shares(found, percent)
    study = name or re.sub(r"[^a-z0-9_-]+", "_", default.lower()).strip("_") or "imported"
    if find_queue(stores.storage, study) is not None:
        raise StudyError(f"'{study}' is a study that is trained here; import under another name with --name")
    prepare(stores.tracking_uri)
    added, known = keep_foreign(connect(stores.tracking_uri, stores.artifact_dir), study, found)
    return ImportedRuns(study, added, known)
