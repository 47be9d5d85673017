"""The face of a logged model that takes pictures: loaded by MLflow, and served over HTTP."""

from __future__ import annotations

import base64
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.pytorch
import numpy as np
import pandas as pd
import pytest
import requests
import torch
from mlflow.exceptions import MlflowException
from mlflow.utils import requirements_utils
from PIL import Image
from torch import Tensor, nn

from lab.data import Intake
from lab.tracking.saving import save_model
from tests.programs import activated
from tests.servers import free_port

REPOSITORY = Path(__file__).parents[3]
CLASSES = ("night", "day", "a [b]")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)


class Net(nn.Module):
    """Class 1 is likelier the brighter an image is."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3))
        return torch.stack([1 - bright, bright, 0 * bright], 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    intake = Intake(CLASSES, (3, 6, 6), (0.0,) * 3, (1.0,) * 3)
    save_model(Net(), torch.zeros(2, 3, 6, 6), folder, intake)
    return folder


@pytest.fixture(scope="module")
def loaded(saved: Path) -> Any:
    return mlflow.pyfunc.load_model(str(saved))


def png(pixels: Any = PIXELS) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def column(*images: Any) -> pd.DataFrame:
    return pd.DataFrame({"image": list(images)})


def expected() -> list[float]:
    bright = PIXELS.mean() / 255
    scores = np.exp([1 - bright, bright, 0])
    return list(scores / scores.sum())


def test_saving_lists_no_packages_but_leaves_that_to_whoever_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[object] = []
    metadata = requirements_utils.importlib_metadata
    listing = metadata.packages_distributions

    def counted() -> Any:
        listed.append(None)
        return listing()

    monkeypatch.setattr(requirements_utils, "_MODULES_TO_PACKAGES", None)
    monkeypatch.setattr(metadata, "packages_distributions", counted)
    save_model(Net(), torch.zeros(2, 3, 6, 6), tmp_path / "model")
    assert not listed
    requirements_utils.warn_dependency_requirement_mismatches(["torch"])
    assert len(listed) == 1  # as MLflow does it for others


@pytest.mark.parametrize("given", [png(), base64.b64encode(png()).decode(), base64.b64encode(png())])
def test_bytes_and_base64_give_labels_and_probabilities(loaded: Any, given: Any) -> None:
    dark = png(np.zeros((3, 9, 3), np.uint8))
    found = loaded.predict(column(given, dark))
    assert list(found.columns) == ["label", "probability", "probabilities"]
    likeliest = int(np.argmax(expected()))
    assert list(found["label"]) == [CLASSES[likeliest], "night"]
    assert found["probability"][0] == pytest.approx(max(expected()))
    assert found["probabilities"][0] == pytest.approx(dict(zip(CLASSES, expected(), strict=True)))


def test_paths_are_read_below_a_folder_that_the_loader_names(
    saved: Path, tmp_path: Path, loaded: Any
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png())
    (tmp_path / "b.png").write_bytes(png())
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "b.png")
    of_files = mlflow.pyfunc.load_model(str(saved), model_config={"folder": str(tmp_path / "in")})
    assert of_files.predict(column("a.png")).equals(loaded.predict(column(png())))
    for path in ("../b.png", "link.png", str(tmp_path / "b.png")):
        with pytest.raises(MlflowException, match="is not below"):
            of_files.predict(column(path))
    with pytest.raises(MlflowException, match=r"'a\\x00.png': is no path"):
        of_files.predict(column("a\0.png"))
    with pytest.raises(MlflowException, match=r"c.png: there is no such file below"):
        of_files.predict(column("c.png"))
    with pytest.raises(MlflowException, match=r"paths are read only if .* model_config"):
        loaded.predict(column(str(tmp_path / "b.png")))


def test_what_is_no_picture_is_named(loaded: Any) -> None:
    with pytest.raises(MlflowException, match="image 1: not an image of a format that Pillow knows"):
        loaded.predict(column(png(), b"no picture"))


def test_more_pictures_than_a_batch(loaded: Any) -> None:
    found = loaded.predict(column(*[png()] * 130, png(np.zeros((6, 6, 3), np.uint8))))
    assert len(found) == 131
    assert list(found["label"][-2:]) == [found["label"][0], "night"]


def test_the_other_face_takes_tensors(saved: Path) -> None:
    net = mlflow.pytorch.load_model(str(saved))
    torch.testing.assert_close(net(torch.ones(5, 3, 6, 6))[:, 1], torch.ones(5))


def test_a_model_of_a_later_version_says_so(saved: Path, tmp_path: Path) -> None:
    later = Path(shutil.copytree(saved, tmp_path / "later"))
    (later / "intake.json").write_text('{"format": 99}')
    with pytest.raises(
        MlflowException, match=r"intake.json was written by a later version of lab; install that"
    ):
        mlflow.pyfunc.load_model(str(later))


@pytest.mark.slow
def test_mlflow_serves_labels(saved: Path, tmp_path: Path) -> None:
    port = free_port()
    command = ["models", "serve", "-m", str(saved), "--env-manager", "local", "--port", str(port)]
    environment = {**activated(), "PYTHONPATH": str(REPOSITORY), "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            env={name: value for name, value in environment.items() if not name.startswith("PYTEST_")},
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/ping", log)
        address = f"http://127.0.0.1:{port}/invocations"
        image = base64.b64encode(png()).decode()
        for payload in (
            {"dataframe_split": {"columns": ["image"], "data": [[image]]}},
            {"dataframe_records": [{"image": image}]},
            {"inputs": {"image": [image]}},
        ):
            answer = requests.post(address, json=payload, timeout=60)
            assert answer.status_code == 200, answer.text
            (found,) = answer.json()["predictions"]
            assert found["label"] == CLASSES[int(np.argmax(expected()))]
            assert found["probabilities"] == pytest.approx(dict(zip(CLASSES, expected(), strict=True)))
        nothing = base64.b64encode(b"no picture").decode()
        refused = requests.post(address, json={"dataframe_records": [{"image": nothing}]}, timeout=60)
        assert refused.status_code == 400
        assert "image 0: not an image of a format that Pillow knows" in refused.text
        csv = requests.post(
            address, data="image\n/etc/hostname\n", headers={"Content-Type": "text/csv"}, timeout=60
        )
        assert csv.status_code == 400
        assert "paths are read only if" in csv.text
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 200
    while True:
        try:
            if requests.get(address, timeout=5).ok:
                return
        except requests.RequestException:  # nobody listens yet, or its worker is still loading the model
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)
