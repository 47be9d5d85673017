"""The predictions of a trained model for its test split, kept in its run: one run can be compared with another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.errors import TrackingError
from lab.tracking.base import Tracker
from lab.tracking.run import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PREDICTIONS", "log_predictions", "read_predictions"]

PREDICTIONS: Final = "predictions.parquet"
_COLUMNS: Final = frozenset({"index", "label", "predicted"})


def log_predictions(run: Run, predictions: pd.DataFrame) -> None:
    """Keep predictions in a `run`, in place of earlier ones.

    Args:
        run: of the model.
        predictions: a row for each image of the test split: index (in the split), label and predicted (by number),
            and probabilities; `attrs["classes"]` has the names of the classes.
    """
    run.log_parquet(predictions, PREDICTIONS)


def read_predictions(tracker: Tracker, run_id: str) -> pd.DataFrame | None:
    """Return the predictions that a run has kept; None if it has none, as those of earlier versions.

    Raises:
        TrackingError: they cannot be read, or the store failed.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, PREDICTIONS, Path(folder))
        if file is None:
            return None
        try:
            found = pd.read_parquet(file, engine="pyarrow")
        except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
            raise TrackingError(f"The {PREDICTIONS} of run {run_id} cannot be read: {error}") from None
    if not set(found.columns) >= _COLUMNS:
        raise TrackingError(
            f"The {PREDICTIONS} of run {run_id} must have the columns {', '.join(sorted(_COLUMNS))}, "
            f"but has {', '.join(map(str, found))}"
        )
    return found
