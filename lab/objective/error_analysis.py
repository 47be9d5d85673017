"""Logs an error analysis to its run: figures to look at, tables for the MLflow UI and for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lab import pictures
from lab.data import Split, images_at
from lab.tracking import Run
from lab.tracking.predictions import log_predictions
from lab.training import ErrorAnalysis
from lab.training.analysis import ConfusedPair

__all__ = ["log_error_analysis"]


def log_error_analysis(run: Run, analysis: ErrorAnalysis, test: Split) -> None:
    """Log the figures and tables of `analysis`, replacing earlier ones.

    Args:
        run: the run of the model.
        analysis: the model's mistakes on the test split.
        test: the test split.

    Raises:
        TrackingError: they cannot be stored.
    """
    classes = [_encodable(scores.name) for scores in analysis.per_class]
    pairs = analysis.most_confused()
    _log_figures(run, analysis.confusion, classes)
    if pairs:
        shown = _examples(pairs, test)
        pictures.log_figure(run, "most_confused.png", lambda: pictures.most_confused(pairs, shown, classes))
    log_predictions(run, _predictions(analysis, classes))
    scores = _scores(analysis, classes)
    run.log_table(scores, "per_class.json")
    run.log_text(scores.to_csv(index=False, lineterminator="\n"), "errors/per_class.csv")
    run.log_text(_confusion(analysis, classes).to_csv(lineterminator="\n"), "errors/confusion.csv")
    run.log_text(
        json.dumps(_records(pairs, classes), indent=2, ensure_ascii=False), "errors/most_confused.json"
    )


def _log_figures(run: Run, confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    whole = partial(pictures.confusion_matrix, confusion, classes, title="Test images")
    pictures.log_figure(run, "confusion_matrix.png", whole)
    errors = partial(pictures.confusion_matrix, confusion, classes, diagonal=False, title="Test errors")
    pictures.log_figure(run, "confusion_errors.png", errors)
    pictures.log_figure(run, "errors_per_class.png", partial(pictures.errors_per_class, confusion, classes))


def _examples(pairs: Sequence[ConfusedPair], test: Split) -> dict[int, npt.NDArray[np.uint8]]:
    """Return the images to show, [C, H, W] by index; only these are read."""
    indices = [example.index for pair in pairs for example in pair.examples]
    shown = images_at(test, indices).cpu().numpy()
    return dict(zip(indices, shown, strict=True))


def _scores(analysis: ErrorAnalysis, classes: Sequence[str]) -> pd.DataFrame:
    rows = (asdict(scores) for scores in analysis.per_class)
    return pd.DataFrame([{**row, "name": name} for row, name in zip(rows, classes, strict=True)]).rename(
        columns={"name": "class"}
    )


def _confusion(analysis: ErrorAnalysis, classes: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(analysis.confusion, index=pd.Index(classes, name="true"), columns=list(classes))


def _predictions(analysis: ErrorAnalysis, classes: Sequence[str]) -> pd.DataFrame:
    """Return a row for each image of the test split; the class names by label are in `attrs`."""
    label = np.min_scalar_type(len(classes))
    columns = {
        "index": np.arange(len(analysis.labels), dtype=np.int32),
        "label": analysis.labels.astype(label),
        "predicted": analysis.predictions.astype(label),
    }
    of, places = analysis.likeliest, range(analysis.probabilities.shape[1])
    if of is None:
        columns |= {f"p_{place}": analysis.probabilities[:, place] for place in places}
    else:
        columns |= {f"top_{place + 1}": of[:, place].astype(label) for place in places}
        columns |= {f"p_top_{place + 1}": analysis.probabilities[:, place] for place in places}
    frame = pd.DataFrame(columns)
    frame.attrs["classes"] = list(classes)
    return frame


def _records(pairs: Sequence[ConfusedPair], classes: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {**asdict(pair), "true": classes[pair.true], "predicted": classes[pair.predicted]} for pair in pairs
    ]


def _encodable(name: str) -> str:
    """Return a class name with everything that is not Unicode escaped: a folder's name may be any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()
