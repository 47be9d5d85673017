"""The saved view of a study in the MLflow UI."""

from __future__ import annotations

import json
from typing import Any

from lab.tracking.views import view_tag


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
