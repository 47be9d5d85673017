"""The saved view of a study in the MLflow UI."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lab.tracking.views import curves_page, view_tag


def view(*metrics: str) -> dict[str, Any]:
    _, value = view_tag(["lr"], descending=True, created=1, metrics=metrics)
    state: dict[str, Any] = json.loads(json.loads(value)["state"])
    return state


def test_chosen_metrics_have_a_column_and_a_chart() -> None:
    plain, measured = view(), view("auroc")
    assert [name for name in measured["selectedColumns"] if name not in plain["selectedColumns"]] == [
        "metrics.`test_auroc`"
    ]
    assert (
        measured["selectedColumns"].index("metrics.`test_auroc`") == 3
    )  # after lr, best_value, test_accuracy
    names = [[chart["displayName"] for chart in state["compareRunCharts"]] for state in (plain, measured)]
    assert set(names[1]) - set(names[0]) == {"val_auroc"}


def test_the_page_with_the_curves_names_runs_and_each_experiment_once() -> None:
    page = urlsplit(curves_page(["1", "1"], ["a", "b"], "val_accuracy").removeprefix("/#"))
    values = parse_qs(page.query)
    assert page.path == "/metric"
    assert [
        json.loads(values[name][0]) for name in ("runs", "experiments", "metric", "plot_metric_keys")
    ] == [*(["a", "b"], ["1"], "val_accuracy", ["val_accuracy"])]
