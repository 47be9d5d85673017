"""`lab register`, `lab predict` and `lab export`: a trained model put to use."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lab.config import TrialConfig, parse_grid
from lab.data import load_data
from lab.engines import sweep
from tests.once import copy_of, made_once
from tests.stores import stores_in

STUDY = """
name: tiny-digits
base: {dataset: digits, depth: 1, width: 4, epochs: 1, batch_size: 256, threads: 1}
grid: {lr: [0.01, 0.0001]}
"""


@pytest.fixture
def swept(lab: Any, tmp_path_factory: pytest.TempPathFactory, fresh_databases: Path) -> Any:
    """`lab` with a finished study of digits, and pictures of some of them in `pictures/`."""

    def make(home: Path) -> None:
        copy_of(fresh_databases, home / ".lab")
        sweep(parse_grid(STUDY), stores_in(home / ".lab"), workers=1)

    copy_of(made_once(tmp_path_factory, "tiny digits", make) / ".lab", lab.home / ".lab")
    test = load_data(TrialConfig(dataset="digits")).test
    images, _ = next(test.batches([(0, 4)]))
    (lab.home / "pictures").mkdir()
    for number, image in enumerate(images[:, 0].numpy()):
        Image.fromarray(image).save(lab.home / "pictures" / f"{number}.png")
    return lab


def best(lab: Any) -> str:
    runs = lab.runs("tiny-digits")
    return str(runs.loc[runs["metrics.best_value"].idxmax(), "run_id"])


def test_from_a_study_to_predictions_by_an_alias(swept: Any) -> None:
    made = swept("register", "tiny-digits", "--name", "digits", "--alias", "champion")
    assert (made.exit_code, made.stderr) == (0, "")
    assert f"Registered run {best(swept)} as version 1 of digits" in made.stdout
    assert "models:/digits@champion" in made.stdout
    again = swept("register", "best:tiny-digits", "--name", "digits")
    assert f"Run {best(swept)} is version 1 of digits already" in again.stdout
    card = swept.tracker.download(best(swept), "model_card.md", swept.home)
    assert card is not None
    assert "Image classifier of the study tiny-digits, test accuracy" in card.read_text()

    found = swept("predict", "models:/digits@champion", "pictures", "--format", "json")
    assert (found.exit_code, found.stderr) == (0, "")
    records = json.loads(found.stdout)
    assert [record["image"] for record in records] == [f"pictures/{number}.png" for number in range(4)]
    by_csv = swept("predict", f"runs:/{best(swept)}", "pictures", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(by_csv.stdout)))
    flat = [
        {
            "image": record["image"],
            "rank": str(rank),
            "class": each["class"],
            "probability": str(each["probability"]),
        }
        for record in records
        for rank, each in enumerate(record["predictions"], start=1)
    ]
    assert rows == flat
    assert len(rows) == 4 * 3
    table = swept("predict", "best:tiny-digits", "pictures/2.png", "--top", "1")
    (line,) = [line for line in table.stdout.splitlines() if "2.png" in line]
    likeliest = records[2]["predictions"][0]
    assert line.split() == ["pictures/2.png", likeliest["class"], f"{likeliest['probability']:.2%}"]


def test_another_run_of_the_study_can_be_registered(swept: Any) -> None:
    (other,) = set(swept.runs("tiny-digits")["run_id"]) - {best(swept)}
    made = swept("register", "tiny-digits", "--run", other[:8], "--name", "digits", "--alias", "challenger")
    assert f"Registered run {other} as version 1" in made.stdout
    alone = swept("register", "--run", other, "--name", "digits")
    assert f"Run {other} is version 1 of digits already" in alone.stdout
    wrong = swept("register", "elsewhere", "--run", other, "--name", "digits")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert f"Run {other} is not of the study elsewhere, but of tiny-digits" in wrong.stderr


def test_unreadable_files_are_told_and_the_others_predicted(swept: Any) -> None:
    Path("pictures/0.png").write_bytes(b"no picture")
    found = swept("predict", "best:tiny-digits", "pictures", "--format", "csv")
    assert found.exit_code == 1
    assert len(found.stdout.splitlines()) == 1 + 3 * 3
    assert "1 file left out, not readable as pictures:\n  pictures/0.png: not an image" in found.stderr
    accepted = swept("predict", "best:tiny-digits", "pictures", "--format", "csv", "--skip-unreadable")
    assert (accepted.exit_code, accepted.stdout) == (0, found.stdout)
    assert "1 file left out" in accepted.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "models:/digits@none", "pictures"], 1, "models:/digits@none"),
        (["predict", "models:/digits", "pictures"], 1, "models:/digits names no version"),
        (
            ["predict", "tiny-digits", "pictures"],
            1,
            "'tiny-digits' is a study, not a run; best:tiny-digits is",
        ),
        (
            ["export", "tiny-digit", "--format", "torch", "--out", "x.pt"],
            1,
            "Did you mean 'best:tiny-digits'?",
        ),
        (["predict", "best:nothing", "pictures"], 1, "There is no study 'nothing' at .*; sweep it first"),
        (["predict", "ffff0000", "pictures"], 1, "No trial at .* has a run id that begins with ffff0000"),
        (["predict", "best:tiny-digits", "nowhere.png"], 2, "'nowhere.png' does not exist"),
        (["register", "tiny-digits", "--name", "a/b"], 1, "Names cannot contain '/' or ':'"),
        (
            ["register", "tiny-digits", "--name", "a", "--alias", "latest"],
            1,
            "The alias 'latest' is MLflow's own",
        ),
        (["register", "nothing", "--name", "a"], 1, "There is no study 'nothing'"),
        (["register", "--name", "a"], 2, "Name a STUDY, or a run with --run"),
        (["export", "best:nothing", "--format", "pt2", "--out", "x.pt2"], 1, "There is no study 'nothing'"),
        (
            ["export", "best:tiny-digits", "--format", "pt2", "--out", "no/x"],
            2,
            "--out no/x: there is no folder no;",
        ),
    ],
)
def test_each_mistake_is_one_clear_error(swept: Any, arguments: list[str], code: int, message: str) -> None:
    result = swept(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.count("Error: ") == 1
    assert re.search(message, result.stderr)


def test_a_study_without_finished_trials_and_a_run_without_a_model(lab: Any) -> None:
    Path("a.png").touch()
    experiment = lab.tracker.experiment("waiting")
    tags = {"lab.study": "waiting"}
    lab.tracker.open_run(name="waiting", experiment=experiment, tags={**tags, "lab.kind": "study"})
    trial = lab.tracker.open_run(name="begun", experiment=experiment, tags={**tags, "lab.kind": "trial"})
    trial.log_text("", "model.txt")
    for arguments in (["predict", "best:waiting", "a.png"], ["register", "waiting", "--name", "a"]):
        result = lab(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "No trial of the study 'waiting' at" in result.stderr
    registered = lab("register", "--run", trial.run_id, "--name", "a")
    assert f"Run {trial.run_id} has no model: only finished trials" in registered.stderr
    predicted = lab("predict", trial.run_id, "a.png")
    assert f"Run {trial.run_id} has no config.yaml: it has not stored one yet" in predicted.stderr
    assert {registered.exit_code, predicted.exit_code} == {1}


@pytest.mark.parametrize("command", ["predict", "register"])
def test_without_a_store_nothing_is_made(bare_lab: Any, command: str) -> None:
    Path("a.png").touch()
    arguments = (
        ["predict", "best:tiny", "a.png"] if command == "predict" else ["register", "tiny", "--name", "a"]
    )
    result = bare_lab(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "mlflow.db does not exist" in result.stderr
    assert not Path(".lab").exists()


LOADING = """
import sys, numpy, torch
pixels = numpy.load("pixels.npy")
graph = torch.export.load("digits.pt2").module()
numpy.save("pt2.npy", graph(torch.from_numpy(pixels)).numpy())
import onnxruntime
numpy.save("onnx.npy", onnxruntime.InferenceSession("digits.onnx").run(None, {"images": pixels})[0])
assert not [name for name in sys.modules if name.partition(".")[0] == "lab"]
"""


@pytest.mark.slow
def test_exported_graphs_run_in_a_process_without_lab(swept: Any) -> None:
    pytest.importorskip("onnxruntime")
    for form in ("pt2", "onnx"):
        made = swept("export", "best:tiny-digits", "--format", form, "--out", f"digits.{form}")
        assert (made.exit_code, made.stderr) == (0, "")
        assert f"Wrote digits.{form}" in made.stdout
    files = sorted(Path("pictures").iterdir())
    np.save("pixels.npy", np.stack([np.asarray(Image.open(file))[None] for file in files]))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", LOADING], check=True, env=environment)
    found = json.loads(
        swept("predict", "best:tiny-digits", "pictures", "--format", "json", "--top", "99").stdout
    )
    expected = [
        [each["probability"] for each in sorted(record["predictions"], key=lambda each: each["class"])]
        for record in found
    ]
    for form in ("pt2", "onnx"):
        np.testing.assert_allclose(np.load(f"{form}.npy"), expected, rtol=1e-4, atol=1e-6)
