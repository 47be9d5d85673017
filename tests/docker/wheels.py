"""A package with a plug-in, as a wheel."""

from __future__ import annotations

import zipfile
from pathlib import Path

__all__ = ["PACKAGE", "write_wheel"]

PACKAGE = "team-nets"
NET = """
import lab
from torch import nn


@lab.architecture
def team_net(shape, classes, *, units: int = 8):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, units), nn.ReLU(), nn.Linear(units, classes))
"""


def write_wheel(folder: Path, version: str) -> Path:
    """Write the wheel of a version, each time the same bytes, so that a layer made of it stays in Docker's cache."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"team_nets-{version}.dist-info"
    files = {
        "team_nets.py": NET,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\nRequires-Dist: lab\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[lab.plugins]\nteam_nets = team_nets\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    file = folder / f"team_nets-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    return file
