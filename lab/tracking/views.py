"""The saved view that shows a study's experiment in the MLflow UI: its table, order and charts.

The UI keeps such views as tags of the experiment. Their format is its own and undocumented; a UI of another
version ignores what it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from lab.tracking.tags import Tag

__all__ = ["curves_page", "run_page", "study_page", "view_tag"]

_KEY = "leaderboard"
_NAME = "Leaderboard"
# with the widths of their columns in pixels
_METRICS = {"best_value": 100, "test_accuracy": 110, "best_epoch": 90, "epochs": 75, "params": 80}
_CURVES = ("val_accuracy", "val_loss", "train_loss")
_FIRST = "Study"
# the UI fills in the others
_SECTIONS = (
    {"name": _FIRST, "columns": 2, "cardHeight": 380},
    {"name": "Model metrics"},
    {"name": "System metrics"},
)


def study_page(experiment: str) -> str:
    """Return the path of the view in the UI, to be appended to a server's address.

    It also says that this is about training; the UI opens on its other half, for language models. A server with
    workspaces (docker/compose.yaml has one) would ask for one first; any other ignores that.
    """
    page = f"/#/experiments/{experiment}/runs?workflowType=machine_learning"
    return f"{page}&viewStateShareKey={_KEY}&workspace=default"


def run_page(experiment: str, run_id: str) -> str:
    """Return the path of a run's page in the UI, as `study_page` does."""
    return f"/#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning&workspace=default"


def curves_page(experiments: Sequence[str], runs: Sequence[str], metric: str) -> str:
    """Return the path of the page in the UI that shows the curves of several runs over each other.

    It leads on to the one that compares their params and metrics.

    Args:
        experiments: ids of the runs' experiments.
        runs: their ids.
        metric: that they log after every epoch.
    """
    values = {"runs": runs, "metric": metric, "experiments": list(dict.fromkeys(experiments))}
    listed = {**values, "plot_metric_keys": [metric]}
    query = "&".join(
        f"{name}={quote(json.dumps(value, separators=(',', ':')))}" for name, value in listed.items()
    )
    return f"/#/metric?{query}&x_axis=step&workflowType=machine_learning&workspace=default"


def view_tag(
    varied: Sequence[str], *, descending: bool, created: int, metrics: Sequence[str] = ()
) -> tuple[str, str]:
    """Return the name and value of the tag that holds the view of a study's trials, best first.

    Args:
        varied: the parameters that the study varies; they are the first columns.
        descending: whether the highest `best_value` is the best.
        created: when the view was created, in milliseconds since 1970.
        metrics: those that the trials log in addition to loss and accuracy, such as `auroc`.
    """
    measured = {"best_value": _METRICS["best_value"], "test_accuracy": _METRICS["test_accuracy"]}
    measured |= {f"test_{name}": 110 for name in metrics} | _METRICS
    widths = {
        **{f"params.`{name}`": 90 for name in varied},
        **{f"metrics.`{name}`": width for name, width in measured.items()},
        f"tags.`{Tag.OUTCOME}`": 120,
    }
    columns = list(widths)
    state = {
        "searchFilter": f"tags.`{Tag.KIND}` = 'trial'",
        "orderByKey": "metrics.`best_value`",
        "orderByAsc": not descending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": widths,
        "compareRunCharts": _charts(varied, metrics),
        "compareRunSections": [
            {"uuid": section["name"], "display": True, "isReordered": False, **section}
            for section in _SECTIONS
        ],
    }
    view = {"name": _NAME, "createdAt": created, "updatedAt": created, "state": json.dumps(state)}
    return f"mlflow.sharedViewState.{_KEY}", json.dumps(view)


def _charts(varied: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    parallel = {"selectedParams": list(varied), "selectedMetrics": ["best_value"], "showAllRuns": True}
    size = {
        "xaxis": {"key": "params", "type": "METRIC"},
        "yaxis": {"key": "best_value", "type": "METRIC"},
        "runsCountToCompare": 100,
    }
    return [
        *([_chart("PARALLEL", "all trials", parallel)] if varied else []),
        *(_chart("LINE", name, _line(name)) for name in (*_CURVES, *(f"val_{metric}" for metric in metrics))),
        _chart("BAR", "best_value", {"metricKey": "best_value"}),
        _chart("SCATTER", "size", size),
    ]


def _chart(kind: str, name: str, values: dict[str, Any]) -> dict[str, Any]:
    common = {"type": kind, "uuid": name, "metricSectionId": _FIRST, "runsCountToCompare": 10}
    return {**common, "deleted": False, "isGenerated": False, "displayName": name, **values}


def _line(metric: str) -> dict[str, Any]:
    """Return a chart of `metric` over the steps; the UI fills in nothing."""
    return {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
