"""A study of a folder of images is of what was in it, whatever the folder is called, and notices when that changes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.storages import RDBStorage
from PIL import Image

from lab import plugins, registry
from lab.config import TrialConfig, parse_grid
from lab.data import clear_cache, identified, load_data
from lab.errors import OtherDataError, StudyError
from lab.models import build_model, with_digest
from lab.study import Earlier, Submission, compare, feasible_cells, open_storage, plan, submit
from lab.study.earlier import end_stale, searched_files
from lab.study.events import WorkerFailed
from lab.study.record import TrialRecord
from lab.study.worker import WorkerSettings, work
from lab.torchvision_import import import_torchvision
from lab.tracking import MemoryTracker

HEAD = (
    "name: s\nbase: {dataset: image_folder, data_dir: photos, image_size: 8, width: 4, depth: 1, epochs: 1}\n"
)
TEXT = f"{HEAD}grid: {{lr: [0.1, 0.2]}}\n"
SEARCH = f"{HEAD}search: {{space: {{lr: {{low: 0.1, high: 0.2}}}}}}\nbudget: {{trials: 2}}\n"


def paint(folder: Path, seed: int, count: int = 10) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")


def old_hash(config: TrialConfig) -> str:
    """Return the hash as it was before cells were known by a digest."""
    default = TrialConfig().model_dump(mode="json")
    skipped = {"checkpoint_every_n_steps", "device", "preset", "threads", "data_digest"}
    values = config.model_dump(mode="json").items()
    counted = {name: value for name, value in values if name not in skipped and value != default[name]}
    return hashlib.sha256(json.dumps(counted, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[
        :16
    ]


class Study:
    """A study of the folder `photos` in the working directory; what is trained is only noted."""

    def __init__(self, storage: RDBStorage) -> None:
        self.storage = storage
        self.tracker = MemoryTracker()

    def submit(self, text: str = TEXT, **overrides: Any) -> Submission:
        grid = parse_grid(text, "s.yaml", overrides)
        return submit(grid, feasible_cells(grid), self.storage, self.tracker)

    def plan(self, **overrides: Any) -> tuple[list[str], tuple[int, int, int]]:
        """Return the states of the cells, and how many are new, known and stale."""
        queue = self.submit(f"{HEAD}grid: {{lr: [0.9]}}").queue  # a cell of its own, which opens the study
        earlier = Earlier(queue, queue.newest(), lambda: self.tracker)
        states = queue.states()
        cells = list(plan(parse_grid(TEXT, "s.yaml", overrides), states, earlier))
        compared = compare(cells, states)
        return [cell.state for cell in cells], (compared.new, compared.known, compared.stale)

    def train(self, submission: Submission, *, recorded: bool = True) -> None:
        """Complete what waits of the study, with a run for each."""
        queue = submission.queue
        for claim in iter(queue.claim, None):
            run = self.tracker.open_run(name="r", experiment=self.tracker.experiment("s"), tags={})
            dataset = load_data(claim.config)
            facts: dict[str, Any] = {
                "source": "s",
                "shape": (3, 8, 8),
                "classes": ["a"],
                "images": {"train": 1},
            }
            if recorded:
                run.log_dataset("image_folder", digest=dataset.digest, **facts)
            queue.note_trial(claim.trial_id, "run_id", run.run_id)
            queue.complete(claim.trial_id, 0.5)


@pytest.fixture
def study(tmp_path: Path, url: str) -> Study:
    clear_cache()
    for seed, name in enumerate(("cat", "dog")):
        paint(tmp_path / "photos" / name, seed)
    return Study(open_storage(url))


@pytest.fixture
def by_spelling(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Plan as earlier versions did, until the returned function is called."""
    with_digest = identified
    monkeypatch.setattr("lab.data.load.identified", lambda config: config)
    return lambda: monkeypatch.setattr("lab.data.load.identified", with_digest)


def replaced() -> None:
    shutil.rmtree("photos/cat")
    paint(Path("photos/cat"), 7)


def relabelled() -> None:
    Path("photos/cat").rename("photos/x")
    Path("photos/dog").rename("photos/cat")
    Path("photos/x").rename("photos/dog")


CHANGES: dict[str, Callable[[], None]] = {
    "grown": lambda: paint(Path("photos/cat/more"), 9, 1),
    "another class": lambda: paint(Path("photos/bird"), 9),
    "replaced": replaced,
    "relabelled": relabelled,
    "less": lambda: Path("photos/cat/3.png").unlink(),
}


def test_a_folder_is_the_same_data_whatever_it_is_called(study: Study, tmp_path: Path) -> None:
    study.train(study.submit())
    shutil.copytree("photos", "copy")
    Path("link").symlink_to("photos")
    for spelling in (
        "./photos",
        "photos/",
        str(tmp_path / "photos"),
        "link",
        "copy",
        "../" + tmp_path.name + "/photos",
    ):
        assert study.plan(data_dir=spelling) == (["complete"] * 2, (0, 2, 0)), spelling
        assert study.submit(data_dir=spelling).added == 0


@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_are_other_cells_and_the_plan_says_so(study: Study, change: str) -> None:
    study.train(study.submit())
    shutil.copytree("photos", "before")
    CHANGES[change]()
    assert study.plan() == (["stale"] * 2, (2, 0, 2))
    submission = study.submit()
    assert (submission.added, submission.stale) == (2, 2)
    study.train(submission)
    assert study.plan() == (["complete"] * 2, (0, 2, 0))
    shutil.rmtree("photos")
    Path("before").rename("photos")
    assert study.plan() == (["complete"] * 2, (0, 2, 0))


def test_names_do_not_count_but_the_order_that_splits_depend_on(study: Study) -> None:
    config = TrialConfig(dataset="image_folder", data_dir="photos")
    before = identified(config).data_digest
    Path("photos/cat/9.png").rename("photos/cat/99.png")
    assert identified(config).data_digest == before
    Path("photos/cat/99.png").rename("photos/cat/00.png")
    assert identified(config).data_digest != before


def test_classes_that_are_left_out_do_not_count(study: Study) -> None:
    config = TrialConfig(dataset="image_folder", data_dir="photos", classes=("cat", "dog"))
    before = identified(config).data_digest
    paint(Path("photos/bird"), 9)
    assert identified(config).data_digest == before


def test_what_waits_for_images_that_are_gone_is_not_begun(study: Study) -> None:
    queue = study.submit().queue
    replaced()
    submission = study.submit()
    assert (submission.added, submission.gone) == (2, 0)
    assert sorted(queue.states().values()) == ["waiting"] * 2
    study.train(study.submit())


def test_a_worker_trains_on_no_other_images_than_were_planned(
    study: Study, url: str, tracking_uri: str, tmp_path: Path
) -> None:
    queue = study.submit().queue
    replaced()
    settings = WorkerSettings("s", url, tracking_uri, tmp_path / "artifacts", tmp_path / "checkpoints")
    queue.note("run_id", "0" * 32)
    events: list[object] = []
    work(settings, events.append, lambda: False)
    (failed,) = [event for event in events if isinstance(event, WorkerFailed)]
    assert "are not those of this trial" in failed.error
    assert list(queue.states().values()) == ["waiting"] * 2


def test_a_search_is_of_one_set_of_images(study: Study) -> None:
    submission = study.submit(SEARCH)
    study.submit(SEARCH)
    queue = submission.queue
    replaced()
    study.submit(SEARCH)  # nothing has begun
    queue.note_trial(queue.records()[0].trial_id, "run_id", "r")
    shutil.rmtree("photos/dog")
    paint(Path("photos/dog"), 8)
    with pytest.raises(StudyError, match="have changed since the search 's' began"):
        study.submit(SEARCH)


@pytest.fixture
def weights(study: Study) -> Path:
    """Files of weights, `before.pth` and `after.pth`, and `net.pth`, a copy of the first."""
    import_torchvision("torchvision")  # before timm does it itself
    pytest.importorskip("timm")
    for seed, name in enumerate(("before", "after")):
        torch.manual_seed(seed)
        model = build_model(TrialConfig(architecture="timm/test_vit"), (3, 32, 32), 2)
        torch.save(model.state_dict(), f"{name}.pth")
    return Path(shutil.copy("before.pth", "net.pth"))


OF_WEIGHTS: dict[str, Any] = {"architecture": "timm/test_vit", "pretrained": "net.pth", "image_size": 32}


def test_a_search_is_of_one_file_of_weights(study: Study, weights: Path) -> None:
    queue = study.submit(SEARCH, **OF_WEIGHTS).queue
    config = TrialConfig(dataset="image_folder", data_dir="photos", **OF_WEIGHTS)
    assert searched_files(queue, config) == with_digest(identified(config))
    shutil.copy("after.pth", weights)
    with pytest.raises(
        OtherDataError, match=r"net\.pth are not those of this trial: their digest is sha256:"
    ):
        searched_files(queue, config)
    study.submit(SEARCH, **OF_WEIGHTS)  # nothing has begun
    assert searched_files(queue, config) == with_digest(identified(config))
    queue.note_trial(queue.records()[0].trial_id, "run_id", "r")
    shutil.copy("before.pth", weights)
    with pytest.raises(StudyError, match="The weights have changed since the search 's' began"):
        study.submit(SEARCH, **OF_WEIGHTS)


def test_what_waits_for_weights_that_are_gone_is_not_begun(study: Study, weights: Path) -> None:
    queue = study.submit(**OF_WEIGHTS).queue
    shutil.copy("after.pth", weights)
    submission = study.submit(**OF_WEIGHTS)
    assert (submission.added, submission.gone) == (2, 0)
    weights.unlink()  # another machine may have it
    assert (end_stale(queue, queue.records(), study.tracker), list(queue.states().values())) == (
        0,
        ["waiting"] * 2,
    )


def test_a_search_among_the_settings_of_a_users_dataset(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.datasets, "_entries", dict(registry.datasets._entries))

    def shades(*, shade: int = 0) -> tuple[Any, Any]:
        return np.full((8, 4, 4), shade, np.uint8), [0, 1] * 4

    plugins.dataset("shades")(shades)
    text = (
        "name: s\nbase: {dataset: shades, epochs: 1}\nsearch: {space: {shade: [1, 2]}}\nbudget: {trials: 2}\n"
    )
    submission = study.submit(text)
    one, other = (
        searched_files(submission.queue, TrialConfig(dataset="shades", shade=shade)) for shade in (1, 2)
    )
    assert one.data_digest != other.data_digest


def test_loaded_images_are_those_of_the_digest(study: Study) -> None:
    config = identified(TrialConfig(dataset="image_folder", data_dir="photos", image_size=8))
    dataset = load_data(config)
    replaced()
    assert load_data(config) is dataset  # they are in memory
    clear_cache()
    with pytest.raises(
        OtherDataError,
        match=r"photos are not those of this trial: their digest is sha256:[0-9a-f]{16}, not sha256:",
    ):
        load_data(config)


def test_cells_of_earlier_versions_are_recognised(study: Study, by_spelling: Callable[[], None]) -> None:
    old = study.submit()
    assert {old_hash(claim) for claim in configs(old)} == set(old.queue.states())
    study.train(old)
    by_spelling()
    shutil.copytree("photos", "copy")
    for spelling in ("photos", "./photos", str(Path("photos").absolute()), "copy"):
        assert study.plan(data_dir=spelling) == (["complete"] * 2, (0, 2, 0)), spelling
    replaced()
    assert study.plan() == (["stale"] * 2, (2, 0, 2))


def test_a_waiting_cell_of_an_earlier_version_goes_on_as_it_was(
    study: Study, by_spelling: Callable[[], None]
) -> None:
    old = study.submit()
    before = set(old.queue.states())
    by_spelling()
    assert study.submit().added == 0
    assert set(old.queue.states()) == before
    study.train(old)
    assert set(old.queue.states().values()) == {"complete"}


def test_cells_that_nobody_knows_the_images_of_count_as_known_until_these_change(
    study: Study, by_spelling: Callable[[], None]
) -> None:
    study.train(study.submit(), recorded=False)
    by_spelling()
    submission = study.submit()
    assert (submission.added, submission.unverified) == (0, 2)
    assert study.submit().unverified == 0  # noted
    replaced()
    assert study.submit().added == 2


def configs(submission: Submission) -> list[TrialConfig]:
    return [TrialConfig(**(TrialRecord(trial).config or {})) for trial in submission.queue.trials()]
