"""What a look at a study costs: it must not wait for libraries that training needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def test_status_needs_neither_torch_nor_mlflow(swept: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, "status", "tiny"],
        cwd=swept.home,
        env={"PYTHONPATH": str(REPOSITORY), "LAB_CACHE_DIR": str(swept.home / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, modules = done.stdout.splitlines()
    assert said.startswith("tiny: 3 complete; best val_accuracy 0.")
    assert not {"torch", "mlflow", "pandas", "matplotlib"} & set(json.loads(modules))
