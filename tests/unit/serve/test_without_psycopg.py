"""The MLflow UI needs no extra, and `lab serve` says which one it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
sys.modules["psycopg"] = None  # as if it were not installed
import lab.serve.ui, lab.serve.leftovers
from lab.errors import LabError
try:
    import lab.serve.postgres
except LabError as error:
    print(error)
"""


def test_the_ui_needs_no_postgres_and_serve_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    said = "`lab serve` needs psycopg, which is not installed here: pip install 'lab[serve]'\n"
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)
