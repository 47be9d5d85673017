"""A trained model says about picture files what evaluation after training said about the same images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lab.config import TrialConfig
from lab.data import INTAKE, load_data
from lab.errors import ConfigError, DataError, LabError, TrackingError
from lab.objective import Placement, TrialResult, analyse_run, train
from lab.tracking import MemoryTracker
from lab.trained import FORMATS, TrainedModel, export, find_pictures, load_trained, predict
from tests.tiny import TINY


@pytest.fixture(scope="module")
def tracker() -> MemoryTracker:
    return MemoryTracker()


@pytest.fixture(scope="module")
def result(tracker: MemoryTracker, tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    placement = Placement(checkpoint_dir=tmp_path_factory.mktemp("checkpoints"))
    return train(TrialConfig(**TINY), tracker, placement=placement)


@pytest.fixture(scope="module")
def pictures(result: TrialResult, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The test images as files."""
    folder = tmp_path_factory.mktemp("pictures")
    test = load_data(result.config).test
    images, _ = next(test.batches([(0, len(test))]))
    files = []
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        files.append(folder / f"{number:03}.png")
        Image.fromarray(image).save(files[-1])
    return files


@pytest.fixture
def model(tracker: MemoryTracker, result: TrialResult) -> TrainedModel:
    return load_trained(tracker, result.run_id)


@pytest.fixture
def copied(tracker: MemoryTracker, result: TrialResult) -> str:
    """The id of a run with the same artifacts, to be damaged."""
    run = tracker.open_run(name="copy", experiment=tracker.experiment("lab"), tags={"lab.kind": "trial"})
    for path, content in tracker.artifacts(result.run_id).items():
        run.log_artifact(path, content)
    return run.run_id


def test_the_probabilities_are_those_of_the_evaluation_after_training(
    model: TrainedModel, result: TrialResult, pictures: list[Path]
) -> None:
    found = list(predict(model, pictures, top=1))
    classes = model.intake.classes
    assert [each.picture for each in found] == [str(file) for file in pictures]
    assert [each.classes[0][0] for each in found] == [classes[label] for label in result.errors.predictions]
    probabilities = np.array([each.classes[0][1] for each in found], np.float32)
    np.testing.assert_array_equal(probabilities, result.errors.confidences)  # to the last bit


def test_they_are_those_of_the_logged_graph(
    tracker: MemoryTracker, model: TrainedModel, result: TrialResult, tmp_path: Path
) -> None:
    file = tracker.download(result.run_id, "model/data/model.pt2", tmp_path)
    assert file is not None
    images, _ = next(load_data(result.config).test.batches([(0, 50)]))
    graph = torch.export.load(file).module()
    torch.testing.assert_close(model.probabilities(images), graph(images.float() / 255).softmax(1).detach())


def test_as_many_classes_as_asked_for_the_likeliest_first(model: TrainedModel, pictures: list[Path]) -> None:
    (three,) = predict(model, pictures[:1], top=3)
    (all_of_them,) = predict(model, pictures[:1], top=99)
    assert three.classes == all_of_them.classes[:3]
    shares = [share for _, share in all_of_them.classes]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)


def test_unreadable_files_are_told_in_their_place(
    model: TrainedModel, pictures: list[Path], tmp_path: Path
) -> None:
    broken, gone = tmp_path / "broken.png", tmp_path / "gone.png"
    broken.write_bytes(pictures[0].read_bytes()[:60])
    found = list(predict(model, [broken, pictures[0], gone], top=1))
    assert [bool(each.fault) for each in found] == [True, False, True]
    assert found[2].fault == "No such file or directory"
    assert found[1] == next(predict(model, pictures[:1], top=1))
    assert [each.classes for each in predict(model, [gone], top=1)] == [()]


def test_folders_are_replaced_by_the_pictures_below_them(tmp_path: Path) -> None:
    for name in ("b.png", "deep/a.jpg", ".hidden.png", "notes.txt", "Thumbs.db"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "one.txt").touch()
    found = find_pictures([tmp_path / "one.txt", tmp_path / "photos"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "one.txt",
        "photos/b.png",
        "photos/deep/a.jpg",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"There are no pictures in .*empty"):
        find_pictures([tmp_path / "empty"])


def test_a_run_of_an_earlier_version_says_what_it_lacks_and_errors_adds_it(
    tracker: MemoryTracker, copied: str, result: TrialResult
) -> None:
    tracker.delete_files(copied, [INTAKE])
    with pytest.raises(TrackingError, match=f"has no {INTAKE}.* `lab errors {copied}` adds it"):
        load_trained(tracker, copied)
    analyse_run(tracker, copied)
    assert tracker.artifacts(copied)[INTAKE] == tracker.artifacts(result.run_id)[INTAKE]


def test_a_run_of_a_later_version_is_one_clear_error(tracker: MemoryTracker, copied: str) -> None:
    intake = json.loads(tracker.artifacts(copied)[INTAKE])
    tracker.attach(copied).log_text(json.dumps({**intake, "format": 99}), INTAKE)
    message = f"The {INTAKE} of run {copied} was written by a later version of lab; install that one"
    with pytest.raises(TrackingError, match=message):
        load_trained(tracker, copied)


def test_a_run_without_weights_is_one_clear_error(tracker: MemoryTracker, copied: str) -> None:
    tracker.delete_files(copied, ["checkpoints/best.pt"])
    with pytest.raises(TrackingError, match="only finished trials"):
        load_trained(tracker, copied)


def test_a_run_with_a_plug_in_is_predicted_only_if_that_is_named(tracker: MemoryTracker, copied: str) -> None:
    config = yaml.safe_load(tracker.artifacts(copied)["config.yaml"]) | {"use": ["their_nets"]}
    tracker.attach(copied).log_text(yaml.safe_dump(config), "config.yaml")
    with pytest.raises(TrackingError, match="the plug-in their_nets is not loaded: give --use their_nets"):
        load_trained(tracker, copied)


def test_the_device_can_be_chosen(tracker: MemoryTracker, result: TrialResult) -> None:
    assert load_trained(tracker, result.run_id, "cpu").device == torch.device("cpu")
    with pytest.raises(ConfigError, match="'xpu:9' cannot be used here"):
        load_trained(tracker, result.run_id, "xpu:9")


def test_a_model_that_diverged_is_one_clear_error(model: TrainedModel, pictures: list[Path]) -> None:
    with torch.no_grad():
        next(model.net.parameters()).fill_(torch.nan)
    with pytest.raises(TrackingError, match=f"The model of run {model.run_id} returns no numbers"):
        list(predict(model, pictures[:1], top=1))


def test_a_model_of_other_images_than_pictures_is_one_clear_error(
    model: TrainedModel, pictures: list[Path]
) -> None:
    four = replace(model, intake=replace(model.intake, shape=(4, 8, 8)))
    with pytest.raises(DataError, match="takes images of 4 channels, but a picture has 1 or 3"):
        predict(four, pictures, top=1)


def pixels(result: TrialResult) -> torch.Tensor:
    images, _ = next(load_data(result.config).test.batches([(0, 7)]))
    return images.contiguous()


def test_the_exported_state_dict_needs_no_lab(model: TrainedModel, tmp_path: Path) -> None:
    export(model, "torch", tmp_path / "model.pt")
    found = torch.load(tmp_path / "model.pt", weights_only=True)
    assert TrialConfig(**found["config"]) == model.config
    assert found["intake"]["classes"] == list(model.intake.classes)
    assert all(
        torch.equal(tensor, model.net.state_dict()[name]) for name, tensor in found["state_dict"].items()
    )
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_the_exported_graph_goes_from_pixels_to_probabilities(
    model: TrainedModel, result: TrialResult, tmp_path: Path
) -> None:
    export(model, "pt2", tmp_path / "model.pt2")
    kept = {INTAKE: ""}
    graph = torch.export.load(tmp_path / "model.pt2", extra_files=kept).module()
    assert json.loads(kept[INTAKE])["classes"] == list(model.intake.classes)
    images = pixels(result)
    torch.testing.assert_close(graph(images), model.probabilities(images))
    torch.testing.assert_close(graph(images[:1]), model.probabilities(images[:1]))


@pytest.mark.slow
def test_the_exported_onnx_graph_goes_from_pixels_to_probabilities(
    model: TrainedModel, result: TrialResult, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    export(model, "onnx", tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 3, 8, 8])
    assert (returned.name, returned.shape) == ("probabilities", ["batch", 10])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(model.intake.classes)
    for images in (pixels(result), pixels(result)[:1]):
        (found,) = session.run(None, {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model.probabilities(images))


def test_what_cannot_be_written_is_one_clear_error(model: TrainedModel, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"nowhere/model\.pt cannot be written: No such file or directory"):
        export(model, "torch", tmp_path / "nowhere" / "model.pt")
    assert sorted(FORMATS) == ["onnx", "pt2", "torch"]
