from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import lab.tracking, lab.tracking.base, lab.tracking.memory
slow = {"mlflow", "torch", "pandas", "matplotlib"} & set(sys.modules)
assert not slow, slow
"""


def test_importing_the_room_is_quick() -> None:
    subprocess.run([sys.executable, "-c", CODE], cwd=Path(__file__).parents[3], check=True)
