"""A user's own folder of images: what it is read as is said before anything is spent, and kept by each run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

_SAID = (
    "train: archive/Training/, 12 images (cat 6, dog 6)",
    "val: archive/valid/, 4 images (cat 2, dog 2)",
    "test: archive/Testing/, 8 images (cat 4, dog 4)",
    "size: 8x8",
    "left out: 1 file (archive/Training/cat/x.heic) that cannot be read as images (skip_unreadable)",
)


@pytest.fixture
def photos(bare_lab: Any) -> Path:
    """Three splits, and one file that Pillow cannot read."""
    root: Path = bare_lab.home / "photos"
    numbers = itertools.count()
    for part, count in (("Training", 6), ("valid", 2), ("Testing", 4)):
        for name in ("cat", "dog"):
            (root / "archive" / part / name).mkdir(parents=True)
            for number in itertools.islice(numbers, count):
                Image.new("RGB", (8, 8), (9 * number, 0, 0)).save(
                    root / "archive" / part / name / f"{number}.png"
                )
    (root / "archive" / "Training" / "cat" / "x.heic").write_bytes(b"nothing")
    return root


def test_train_says_and_keeps_what_the_folder_is_read_as(lab: Any, photos: Path, tmp_path: Path) -> None:
    args = (
        "train",
        "--config",
        "config.yaml",
        "--dataset",
        "image_folder",
        "--data-dir",
        photos,
        "--epochs",
        "1",
    )
    refused = lab(*args, "--image-size", "8")
    assert refused.exit_code == 1
    assert "1 of 25 files" in refused.stderr
    assert lab.runs("lab").empty
    (lab.home / "own.yaml").write_text((lab.home / "config.yaml").read_text().replace("image_size: 8\n", ""))
    trained = lab(*[{"config.yaml": "own.yaml"}.get(arg, arg) for arg in args], "--skip-unreadable")
    assert trained.exit_code == 0
    (run,) = lab.runs("lab").to_dict("records")
    assert (run["params.image_size"], run["params.skip_unreadable"]) == ("8", "true")
    assert run["tags.lab.images"] == "train 12, val 4, test 8"
    kept = lab.tracker.download(run["run_id"], "data.txt", tmp_path).read_text()
    for line in _SAID:
        assert line in trained.stdout
        assert line in kept
    assert "cat: train 6, val 2, test 4\n" in kept


def test_plan_and_sweep_say_it_too(lab: Any, photos: Path) -> None:
    text = (lab.home / "tiny.yaml").read_text()
    data = f"dataset: image_folder\n  data_dir: {photos}\n  skip_unreadable: true"
    text = text.replace("dataset: synthetic\n  image_size: 8", data).replace("epochs: 2", "epochs: 1")
    (lab.home / "tiny.yaml").write_text(text)
    planned, as_json = lab("plan", "tiny.yaml"), lab("plan", "tiny.yaml", "--format", "json")
    swept = lab("sweep", "tiny.yaml", "--only", "lr=0.01", "--only", "activation=relu", "--workers", "1")
    assert swept.exit_code == 0
    for line in _SAID:
        assert planned.stdout.count(line) == 1
        assert as_json.stderr.count(line) == 1
        assert swept.stdout.count(line) == 1
    assert '"image_size": 8' in as_json.stdout
    assert "1 already in the study (1 complete)" in lab("plan", "tiny.yaml").stdout
