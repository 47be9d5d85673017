"""Tables as JSON."""

from __future__ import annotations

import json

import pandas as pd

from lab.cli.console import frame_json


def test_a_table_as_json_has_all_digits_and_null_for_what_is_missing() -> None:
    frame = pd.DataFrame(
        {
            "value": [0.7430555555555556, float("nan"), 1.2e-13, float("inf")],
            "epochs": pd.array([1, None, 3, 4], dtype="Int64"),
            "pareto": [True, False, False, True],
            "outcome": ["completed", None, "früh", "a/b"],
        }
    )
    assert json.loads(frame_json(frame)) == [
        {"value": 0.7430555555555556, "epochs": 1, "pareto": True, "outcome": "completed"},
        {"value": None, "epochs": None, "pareto": False, "outcome": None},
        {"value": 1.2e-13, "epochs": 3, "pareto": False, "outcome": "früh"},
        {"value": None, "epochs": 4, "pareto": True, "outcome": "a/b"},
    ]
    assert json.loads(frame_json(frame[:0])) == []
