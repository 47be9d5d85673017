"""Trained models of earlier runs: found by name, read back, and begun with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lab.config import TrialConfig
from lab.data import clear_cache
from lab.errors import ConfigError, TrackingError
from lab.objective import LrRange, Placement, TrialResult, analyse_run, find_lr, train
from lab.report import leaderboard
from lab.restore import find_run, restore, restore_config, whole_id
from lab.study import check_stored_origins
from lab.tracking import MemoryTracker, Run, RunStatus
from lab.tracking.planned import Planned, log_planned
from tests.tiny import TINY

TRIAL = {"lab.kind": "trial"}


@pytest.fixture
def tracker() -> MemoryTracker:
    return MemoryTracker()


@pytest.fixture
def run(tracker: MemoryTracker, tmp_path: Path) -> Any:
    """Train in the study `source`, which has its parent run."""
    experiment = tracker.experiment("source")
    tags = {"lab.study": "source", "lab.kind": "study", "lab.direction": "maximize"}
    tracker.open_run(name="source", experiment=experiment, tags=tags)

    def train_one(study: str = "source", **values: Any) -> TrialResult:
        placement = Placement(study, tags={"lab.study": study}, checkpoint_dir=tmp_path)
        return train(TrialConfig(**{**TINY, **values}), tracker, placement=placement)

    return train_one


def test_a_run_gives_its_config_and_best_weights(tracker: MemoryTracker, run: Any) -> None:
    result = run()
    saved = restore(tracker, find_run(tracker, result.run_id))
    assert saved.config == result.config
    for name, tensor in result.model.model.state_dict().items():
        assert torch.equal(saved.weights[name], tensor), name


def test_the_best_of_a_study_is_its_best_finished_trial(tracker: MemoryTracker, run: Any) -> None:
    results = [run(lr=lr) for lr in (1e-6, 0.01, 1e-5)]
    best = max(results, key=lambda result: result.value)
    assert find_run(tracker, "best:source") == best.run_id
    assert find_run(tracker, f"runs:/{best.run_id}") == best.run_id


def test_the_lineage_is_on_the_run(tracker: MemoryTracker, run: Any) -> None:
    source = run()
    child = run(
        "small", init_from="best:source", classes=("pattern0", "pattern3"), freeze="all_but_head", seed=5
    )
    tags = tracker.runs(tracker.experiment("small")).iloc[0]
    assert tags["tags.lab.init_from_run"] == source.run_id
    assert (tags["params.init_from"], tags["params.freeze"]) == ("best:source", "all_but_head")
    theirs, ours = source.model.model.state_dict(), child.model.model.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs if name.startswith("features"))
    assert ours["classifier.dense1.weight"].shape[0] == 2


def test_the_same_classes_keep_the_head(tracker: MemoryTracker, run: Any) -> None:
    source = run()
    child = run("again", init_from=source.run_id, freeze=2, lr=1e-30, seed=5)
    assert child.test.accuracy == pytest.approx(source.test.accuracy)


def pictures(folder: Path, classes: str) -> dict[str, Any]:
    """Store some images of each class, whose names are letters; return the settings that read them."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for shade in range(20):
            Image.new("L", (8, 8), 60 * number + shade).save(folder / name / f"{shade}.png")
    return {"dataset": "image_folder", "data_dir": str(folder), "image_size": 8, "classes": ()}


@pytest.mark.parametrize(
    ("classes", "is_kept"), [("abc", True), ("ab", False), ("abx", False), ("abcd", False)]
)
def test_the_head_is_for_classes_of_these_names_wherever_their_images_are(
    tracker: MemoryTracker, run: Any, tmp_path: Path, classes: str, is_kept: bool
) -> None:
    source = run(**pictures(tmp_path / "theirs", "abc"))
    shutil.rmtree(tmp_path / "theirs")
    clear_cache()
    config = TrialConfig(
        **{**TINY, **pictures(tmp_path / "ours", classes), "init_from": source.run_id, "lr": 1e-30}
    )
    check_stored_origins([config], [], tracker)
    child = train(config, tracker)
    theirs, ours = (each.model.model.state_dict()["classifier.dense1.weight"] for each in (source, child))
    assert ours.shape[0] == len(classes)
    assert (ours.shape == theirs.shape and torch.equal(ours, theirs)) == is_kept


def test_a_run_of_an_early_version_has_the_classes_of_its_data(tracker: MemoryTracker, run: Any) -> None:
    source = run()
    tracker.delete_files(source.run_id, ["intake.json"])
    child = run("again", init_from=source.run_id, freeze=2, lr=1e-30, seed=5)
    assert child.test.accuracy == pytest.approx(source.test.accuracy)


def test_what_does_not_fit_is_refused(tracker: MemoryTracker, run: Any) -> None:
    source = run()
    with pytest.raises(ConfigError, match=r"its features.conv2.weight is 4×4×3×3, this one's is 6×4×3×3"):
        run("other", init_from=source.run_id, filters=(4, 6))


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("best:nothing", "There is no study 'nothing'"),
        ("best:source", "No trial of the study 'source' .* has finished yet"),
        ("models:/digits/1", "There is no model models:/digits/1"),
    ],
)
def test_what_is_not_there(tracker: MemoryTracker, run: Any, origin: str, message: str) -> None:
    with pytest.raises(TrackingError, match=message):
        find_run(tracker, origin)


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("source", "^'source' is a study, not a run; best:source is the best run of it$"),
        ("runs:/source", "^'source' is a study, not a run"),
        ("decade", "^'decade' is a study, not a run; best:decade"),  # though it may begin an id
        ("sourse", r"^There is no run 'sourse' at memory\. Did you mean 'best:source'\?$"),
        (
            "nothing",
            r"^There is no run 'nothing' at memory\. Give its id or the start of it, models:/NAME/VERSION or",
        ),
        ("best:sourse", r"^There is no study 'sourse' at memory\. Did you mean 'best:source'\?$"),
        ("best:nothing", r"^There is no study 'nothing' at memory; sweep it first$"),
    ],
)
def test_names_that_are_none_of_runs(tracker: MemoryTracker, run: Any, origin: str, message: str) -> None:
    run()
    tags = {"lab.study": "decade", "lab.kind": "study"}
    tracker.open_run(name="decade", experiment=tracker.experiment("decade"), tags=tags)
    with pytest.raises(TrackingError, match=message):
        find_run(tracker, origin)


def test_the_beginning_of_an_id_is_enough(tracker: MemoryTracker) -> None:
    experiment = tracker.experiment("x")
    ids = [tracker.open_run(name="x", experiment=experiment, tags=TRIAL).run_id for _ in range(20)]
    tracker.open_run(name="study", experiment=experiment, tags={"lab.kind": "study"})
    for written in (
        ids[0][:8],
        f"runs:/{ids[0][:8]}",
        f"{ids[0][:8]}…",
        ids[0][:8].upper(),
        f"runs:/{ids[0]}/model",
    ):
        assert find_run(tracker, written) == ids[0]
    shared = next(digit for digit in "0123456789abcdef" if sum(i.startswith(digit) for i in ids) > 1)
    same = sorted(known for known in ids if known.startswith(shared))
    with pytest.raises(TrackingError, match=rf"{len(same)} runs begin with {shared}; .*{same[0]}, {same[1]}"):
        find_run(tracker, shared)
    with pytest.raises(TrackingError, match="No trial at memory has a run id that begins with 0123456789"):
        find_run(tracker, "0123456789")
    assert whole_id(tracker, "best:a") == "best:a"
    assert find_run(tracker, "pending-0123") == "pending-0123"


def test_the_best_of_a_study_is_of_its_newest_file(tracker: MemoryTracker, run: Any) -> None:
    results = {result.run_id: result for result in (run(epochs=3), run(epochs=1))}
    best = results.pop(find_run(tracker, "best:source"))
    (planned,) = results.values()
    (parent,) = tracker.find_runs(tracker.experiment("source"), {"lab.kind": "study"})
    parent_run = tracker.attach(parent)
    log_planned(parent_run, tracker, Planned("", {}, (planned.config.cell_hash,)))
    assert find_run(tracker, "best:source") == planned.run_id
    log_planned(parent_run, tracker, Planned("", {}, ("none of these has finished",)))
    assert find_run(tracker, "best:source") == best.run_id


def test_a_run_without_weights(tracker: MemoryTracker) -> None:
    result = train(TrialConfig(**TINY), tracker)  # no checkpoint folder, so none are kept
    with pytest.raises(TrackingError, match=r"has no checkpoints/best.pt"):
        restore(tracker, result.run_id)


def test_a_run_of_somebody_else(tracker: MemoryTracker) -> None:
    other = tracker.open_run(name="x", experiment=tracker.experiment("x"), tags={})
    with pytest.raises(TrackingError, match=r"has no config.yaml: it was not started by lab"):
        restore(tracker, other.run_id)


def test_damaged_weights_are_told(tracker: MemoryTracker, run: Any, tmp_path: Path) -> None:
    result = run()
    (tmp_path / "best.pt").write_bytes(b"not weights")
    tracker.attach(result.run_id).log_file(tmp_path / "best.pt", "checkpoints")
    with pytest.raises(TrackingError, match=r"The weights of run .* cannot be read"):
        restore(tracker, result.run_id)


def test_mistakes_are_found_again(tracker: MemoryTracker, run: Any) -> None:
    result = run()
    before = tracker.runs(tracker.experiment("source")).set_index("run_id").loc[result.run_id]
    errors = analyse_run(tracker, result.run_id)
    after = tracker.runs(tracker.experiment("source")).set_index("run_id").loc[result.run_id]
    assert (errors.confusion == result.errors.confusion).all()
    assert (before["status"], before["end_time"]) == (after["status"], after["end_time"])
    assert "confusion_errors.png" in tracker.artifacts(result.run_id)


def test_of_equal_trials_the_best_is_the_one_that_everything_else_names(tracker: MemoryTracker) -> None:
    experiment = tracker.experiment("source")
    tags = {"lab.study": "source", "lab.kind": "study", "lab.direction": "minimize"}
    tracker.open_run(name="source", experiment=experiment, tags=tags)
    trials = [
        (9, "completed", 0.5, 10),
        (8, "diverged", 0.1, 1),
        (7, "completed", 0.5, 20),
        (3, "pruned", 0.1, 1),
    ]
    for number, outcome, value, params in [*trials, (10, "completed", 0.5, 10), (2, "completed", 0.6, 1)]:
        tags = {"lab.study": "source", "lab.kind": "trial", "lab.trial": str(number), "lab.outcome": outcome}
        run = tracker.open_run(name=str(number), experiment=experiment, tags=tags)
        run.log_metrics({"best_value": value, "params": params, "test_accuracy": number / 10})
        run.end(RunStatus.KILLED if outcome == "pruned" else RunStatus.FINISHED)
    board = leaderboard(tracker, experiment, study="source")
    assert board["name"].tolist() == ["9", "10", "7", "2", "3", "8"]
    assert find_run(tracker, "best:source") == board["run_id"][0]


def test_a_config_may_be_continued_elsewhere_but_not_changed(tracker: MemoryTracker, run: Any) -> None:
    result = run()
    assert restore_config(tracker, result.run_id) == result.config
    elsewhere = restore_config(tracker, result.run_id, {"threads": 2})
    assert elsewhere == result.config.model_copy(update={"threads": 2})
    with pytest.raises(ConfigError, match="continued with its own settings; start a new run"):
        restore_config(tracker, result.run_id, {"lr": 0.5})
    with pytest.raises(ConfigError, match="threads"):
        restore_config(tracker, result.run_id, {"threads": -1})


def test_a_range_test_cannot_be_continued_as_a_trial(tracker: MemoryTracker) -> None:
    opened: list[Run] = []
    find_lr(TrialConfig(**TINY), tracker, LrRange(steps=10), on_start=opened.append)
    with pytest.raises(TrackingError, match=r"is not a trial: its tag lab\.kind is lr_range$"):
        restore_config(tracker, opened[0].run_id)
