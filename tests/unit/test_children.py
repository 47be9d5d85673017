"""The server that workers are forked from imports only what this process would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from lab.children import child_context
if __name__ == "__main__":
    child = child_context(["colorsys"]).Process(target=print, args=("began",))
    child.start()
    child.join()
"""


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("print('taken from the folder', flush=True)")
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("PYTHONSAFEPATH", None)
    ended = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "began\n"
