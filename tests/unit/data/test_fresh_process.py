"""What a process that has done nothing else loads and imports; one for all tests, because imports take seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.config import TrialConfig
from lab.data import load_data

CODE = """
import json, sys
import lab.data, lab.data.torchvision as source
import torch
from lab.config import TrialConfig
from lab.torchvision_import import import_torchvision

said = {}
torch.manual_seed(5)
torch.rand(9)
said["digest"] = lab.data.load_data(TrialConfig(dataset="synthetic", image_size=16)).digest
said["torchvision"] = "torchvision" in sys.modules
said["datasets"] = import_torchvision("torchvision.datasets").MNIST.__name__
said["models"] = import_torchvision("torchvision.models").resnet18().fc.out_features
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_synthetic_images_are_the_same(said: dict[str, Any]) -> None:
    assert said["digest"] == load_data(TrialConfig(dataset="synthetic", image_size=16)).digest


def test_only_what_needs_torchvision_imports_it(said: dict[str, Any]) -> None:
    assert not said["torchvision"]


def test_torchvision_is_imported(said: dict[str, Any]) -> None:
    assert (said["datasets"], said["models"]) == ("MNIST", 1000)
