"""The public surface: what `lab` offers is there, typed, and cheap to import."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import lab

IMPORTS = """
import importlib, sys
for name in ("lab", "lab.config", "lab.tracking", "lab.tracking.base", "lab.tracking.memory", "lab.cli"):
    importlib.import_module(name)
    heavy = {"torch", "mlflow", "optuna", "pandas", "matplotlib"} & sys.modules.keys()
    assert not heavy, (name, heavy)
"""


def modules() -> list[str]:
    return sorted(
        m.name for m in pkgutil.walk_packages(lab.__path__, "lab.") if not m.name.endswith("__main__")
    )


@pytest.mark.parametrize("name", modules())
def test_all_of_all_is_there(name: str) -> None:
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])
    assert [n for n in public if not hasattr(module, n)] == []
    assert len(set(public)) == len(public)  # ruff keeps them sorted


def test_what_lab_offers_is_there() -> None:
    for name in lab.__all__:
        assert getattr(lab, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No lab attribute trian"):
        _ = lab.trian


def test_heavy_libraries_wait_until_they_are_needed() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
