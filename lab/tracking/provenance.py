"""Which code and which versions a run was made with."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["provenance"]


@cache
def provenance() -> dict[str, str]:
    """Return tags with the git commit of lab's code and the versions of what computes."""
    tags = {
        "lab.version": _version("lab"),
        "lab.python": platform.python_version(),
        "lab.torch": _version("torch"),
        "lab.torchvision": _version("torchvision"),
        "lab.host": platform.node(),
    }
    commit = _commit(Path(__file__).parent)
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit(folder: Path) -> str:
    """Return the commit that `folder` is checked out at, empty where it is not in a repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
