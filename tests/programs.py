"""Processes of `lab`, started as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["activated", "start_lab"]

_REPOSITORY = Path(__file__).parents[1]


def activated() -> dict[str, str]:
    """Return the environment variables of a shell in which the virtual environment of these tests is activated."""
    programs = Path(sys.executable).parent
    return {**os.environ, "PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}


def start_lab(home: Path, storage: str, tracking_uri: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a command of lab in the folder `home`, where it writes to `log.txt`, in a process group of its own."""
    stores = {"LAB_STORAGE": storage, "MLFLOW_TRACKING_URI": tracking_uri}
    with (home / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lab", *words],
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY), **stores},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
