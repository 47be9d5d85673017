"""What commands that only look must not wait for: libraries that training and reports need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
CODE = """
import json, sys
from lab.cli import main

try:
    main(sys.argv[1:], prog_name="lab")
except SystemExit as end:
    assert end.code == 0
print(json.dumps(sorted(sys.modules)))
"""


_TRAINING = {"torch", "sklearn", "matplotlib"}
_TRACKING = {"mlflow", "pandas"}
_COMPILER = {"torch._dynamo", "sympy"}
_STORES = {"sqlalchemy", "optuna"}


@pytest.mark.parametrize(
    ("command", "said", "unneeded"),
    [
        (["status"], "tiny", _TRAINING | _TRACKING),
        (["status", "tiny"], "tiny: 3 complete; best val_accuracy 0.", _TRAINING | _TRACKING),
        (["best", "tiny"], "Load the best model", _TRAINING | {"scipy.stats"}),
        # these build nets, to count their parameters
        (
            ["check", "tiny.yaml"],
            "ok  tiny.yaml: 4 cells, 3 feasible",
            _TRACKING | _COMPILER | _STORES | {"sklearn", "matplotlib"},
        ),
        (
            ["plan", "tiny.yaml"],
            "Study 'tiny': 0 new cells",
            _TRACKING | _COMPILER | {"sklearn", "matplotlib"},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_look_imports_only_what_it_shows(
    swept: Any, command: list[str], said: str, unneeded: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *command],
        cwd=swept.home,
        env={"PYTHONPATH": str(REPOSITORY), "LAB_CACHE_DIR": str(swept.home / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown, _, modules = done.stdout.strip().rpartition("\n")
    assert said in shown
    assert not unneeded & set(json.loads(modules))


_ERRORS = """
import sys
import torch
import lab.engines.preloaded
from lab.training.analysis import analyse
from lab.training.evaluate import DetailedEvaluation

found = torch.tensor([0, 1, 1])
analyse(found, DetailedEvaluation(1.0, 1.0, found, torch.ones(3), 1, 1.0, torch.ones(3, 2)), ["a", "b"])
assert "sklearn" not in sys.modules
"""


def test_workers_begin_and_score_without_scikit_learn() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ERRORS],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
