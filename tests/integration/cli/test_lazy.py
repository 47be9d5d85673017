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
import io, json, sys
from contextlib import redirect_stdout
from lab.cli import main

for command in json.loads(sys.argv[1]):
    with redirect_stdout(io.StringIO()) as said:
        try:
            main(command, prog_name="lab")
        except SystemExit as end:
            assert end.code == 0
    print(json.dumps([said.getvalue(), sorted(sys.modules)]))
"""


_TRAINING = {"torch", "sklearn", "matplotlib"}
_TRACKING = {"mlflow", "pandas"}
_STORES = {"sqlalchemy", "optuna"}
_NETS = _TRACKING | {"torch._dynamo", "sympy", "sklearn", "matplotlib"}


@pytest.mark.parametrize(
    "looks",
    [
        [
            (["status"], "tiny", _TRAINING | _TRACKING),
            (["status", "tiny"], "tiny: 3 complete; best val_accuracy 0.", _TRAINING | _TRACKING),
            (["best", "tiny"], "Load the best model", _TRAINING | {"scipy.stats"}),
        ],
        # these build nets, to count their parameters
        [
            (["check", "tiny.yaml"], "ok  tiny.yaml: 4 cells, 3 feasible", _NETS | _STORES),
            (["plan", "tiny.yaml"], "Study 'tiny': 0 new cells", _NETS),
        ],
    ],
    ids=["status and best", "check and plan"],
)
def test_a_look_imports_only_what_it_shows(swept: Any, looks: list[tuple[list[str], str, set[str]]]) -> None:
    """One process looks several times: what an earlier look imports, a later one may not need, either."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([command for command, _, _ in looks])],
        cwd=swept.home,
        env={"PYTHONPATH": str(REPOSITORY), "LAB_CACHE_DIR": str(swept.home / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (_, expected, unneeded), (said, modules) in zip(looks, found, strict=True):
        assert expected in said
        assert not unneeded & set(modules)


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
