"""Data sets of users' own: arrays that a function returns, and map-style torch Datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lab
from lab import children, plugins, registry
from lab.config import TrialConfig, load_grid, parse_config
from lab.data import Dataset, clear_cache, data_notes, describe, identified, images_at, load_data
from lab.engines import Stores, plan_grid
from lab.errors import DataError, LabError, MissingDataError, OtherDataError
from lab.plugins import kept

SQUARES = """
import numpy as np
from PIL import Image

import lab
from lab.errors import DataError
from torch.utils.data import Dataset


@lab.dataset
def squares(data_dir, *, count: int = 40, side: int = 8):
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 2
    images = rng.integers(0, 100, (count, side, side), dtype=np.uint8) + (100 * labels)[:, None, None].astype(np.uint8)
    more = data_dir / "test.npy"
    if more.exists():
        images = np.load(more)
    return {"train": (images, labels, ["dark", "bright"]), "test": (images[:10], labels[:10])}


@lab.dataset
class Photos(Dataset):
    classes = ["dark", "bright"]

    def __init__(self, *, length: int = 30):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, at):
        return Image.new("RGB", (12, 8 + at % 2), (at, 100 * (at % 2), 0)), at % 2
"""


@pytest.fixture(autouse=True)
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return what loads another text of the plug-in."""
    monkeypatch.setenv("LAB_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(children, "_share", Fraction(1, 10_000))  # one process: faster to start
    before = dict(registry.datasets._entries)

    def loaded(text: str) -> None:
        (tmp_path / "own_data.py").write_text(text)
        plugins.use(str(tmp_path / "own_data.py"))

    loaded(SQUARES)
    yield loaded
    if "own_data" in plugins.loaded():
        kept._take_out("own_data")
    registry.datasets._entries.clear()
    registry.datasets._entries.update(before)
    clear_cache()


def _register(target: Any) -> None:
    lab.dataset("given")(target)


def _error(target: Any, kind: type[LabError] = DataError, **values: object) -> str:
    _register(target)
    clear_cache()
    with pytest.raises(kind, match=r"^dataset given") as caught:
        describe(TrialConfig(dataset="given", **values))  # type: ignore[arg-type]
    registry.datasets.remove("given")
    return str(caught.value).split(": ", 1)[1]


def _pixels(dataset: Dataset) -> list[torch.Tensor]:
    parts = [part for part in (dataset.train, dataset.val, dataset.test) if part is not None]
    return [images_at(part, range(len(part))) for part in parts]


def test_a_function_that_returns_arrays() -> None:
    config = TrialConfig(dataset="squares", count=20)
    assert describe(config).shape == (1, 8, 8)
    dataset = load_data(config)
    assert dataset.classes == ("dark", "bright")
    assert [len(part) for part in (dataset.train, dataset.val or (), dataset.test)] == [18, 2, 10]
    assert dataset.train.shape == (1, 8, 8)
    assert data_notes(config) == (
        "train: 20 images (dark 10, bright 10)",
        "test: 10 images (dark 5, bright 5)",
        "val: cut from train (val_fraction=0.1)",
        "size: 8x8",
    )


def test_its_contents_identify_the_cell(tmp_path: Path) -> None:
    config = identified(TrialConfig(dataset="squares"))
    assert config.data_digest
    assert parse_config(config.as_values()).cell_hash == config.cell_hash
    np.save(tmp_path / "test.npy", np.zeros((40, 8, 8), np.uint8))
    clear_cache()
    assert identified(TrialConfig(dataset="squares")).cell_hash != config.cell_hash
    message = (
        "The images of squares are not those of this trial: .* or the plug-in draws at random|a fixed seed"
    )
    with pytest.raises(OtherDataError, match=message):
        load_data(config)


def test_a_trial_trains_and_a_grid_is_planned(tmp_path: Path) -> None:
    result = lab.train(TrialConfig(dataset="squares", epochs=1, filters=(4,), use=("own_data",)))
    assert 0 <= result.test.accuracy <= 1
    (tmp_path / "own.yaml").write_text(
        "use: own_data.py\nbase: {dataset: squares, epochs: 1}\ngrid: {count: [20, 40], lr: [0.1, 0.01]}"
    )
    stores = Stores(
        f"sqlite:///{tmp_path / 'optuna.db'}", f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, tmp_path
    )
    cells = list(plan_grid(load_grid(tmp_path / "own.yaml"), stores).cells)
    assert [cell.config.count for cell in cells] == [20, 20, 40, 40]
    assert len({cell.config.data_digest for cell in cells}) == 2


def test_a_dataset_in_memory_and_streamed() -> None:
    values: dict[str, Any] = {"dataset": "photos", "image_size": 8, "resize": "pad", "test_fraction": 0.2}
    in_memory = load_data(TrialConfig(**values, data_in_memory=True))
    clear_cache()
    streamed = load_data(TrialConfig(**values, data_in_memory=False))
    assert any("data_in_memory: false" in note for note in streamed.notes)
    assert in_memory.classes == streamed.classes == ("dark", "bright")
    assert all(map(torch.equal, _pixels(in_memory), _pixels(streamed)))


def test_different_sizes_need_image_size() -> None:
    with pytest.raises(
        DataError, match=r"dataset Photos of own_data: set image_size.*12x8 \(15\), 12x9 \(15\)"
    ):
        describe(TrialConfig(dataset="photos"))


def test_an_instance_and_images_that_are_no_squares() -> None:
    images = torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1).expand(20, 3, 4, 6)
    registry.datasets.register("given", torch.utils.data.TensorDataset(images, torch.arange(20) % 3))
    config = TrialConfig(dataset="given", val_fraction=0.3, test_fraction=0.3)
    assert identified(config).data_digest is None  # `register` gives it no options
    assert describe(config).shape == (3, 4, 6)
    assert load_data(config).classes == ("0", "1", "2")


def test_transparent_and_grey_pictures() -> None:
    pictures = [Image.new("L", (4, 4), 10), Image.new("RGBA", (4, 4), (9, 9, 9, 0))] * 10
    _register(lambda: (pictures, [0, 1] * 10))
    dataset = load_data(TrialConfig(dataset="given", background="black"))
    assert dataset.train.shape == (3, 4, 4)
    assert {int(images.amax(dim=(1, 2, 3))[label == 0].max()) for images, label in [_first(dataset)]} == {10}


def _first(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return _pixels(dataset)[0], dataset.train.labels


IMAGES = np.zeros((6, 4, 4, 3), np.uint8)
LABELS = [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, r"must return \(images, labels\) or .*, but got NoneType"),
        ({"training": (IMAGES, LABELS)}, "keys train, val and test, but its dict has the keys training"),
        ((IMAGES / 2, LABELS), r"images must be uint8 .*, but are float64 \[6, 4, 4, 3\]"),
        ((np.zeros((6, 3, 8, 8), np.uint8), LABELS), r"but got \[3, 8, 8\]: an array's channels come last"),
        ((IMAGES, LABELS[:5]), r"6 images need as many labels, but their shape is \[5\]"),
        ((IMAGES, list("ababab")), "labels must be whole numbers, but are <U1"),
        ((IMAGES, [-1, *LABELS[1:]]), r"train: labels must lie in 0..1, but got -1..1"),
        ((IMAGES, LABELS, ["a", "b", "c"]), "every class needs training images, but there are none of c"),
        ((IMAGES, LABELS, ["a", "a"]), "has the class a twice"),
        ((IMAGES, [0] * 6), "at least 2 classes are needed"),
        ((IMAGES[:0], []), "has no images in train"),
        (
            ([Image.new("I", (4, 4))] * 2, [0, 1]),
            "train: image 0: .*a PIL image of mode I; convert it to 8 bits",
        ),
        (
            {"train": (IMAGES, LABELS, ["a", "b"]), "test": (IMAGES, LABELS, ["b", "a"])},
            "has different class names in different splits",
        ),
    ],
)
def test_what_cannot_be_used(returned: Any, message: str) -> None:
    with _matching(message):
        raise RuntimeError(_error(lambda: returned))


def _matching(message: str) -> Any:
    return pytest.raises(RuntimeError, match=message)


def test_an_error_in_a_plug_in_names_its_line(use: Callable[[str], None]) -> None:
    use("import lab\n@lab.dataset\ndef broken():\n    raise KeyError('labels')\n")
    with pytest.raises(
        DataError, match=r"^dataset broken of own_data: KeyError: 'labels' \(.*own_data.py, line 4\)$"
    ):
        describe(TrialConfig(dataset="broken"))
    use("import lab\n@lab.dataset\ndef broken():\n    open('/no/such/file')\n")
    with pytest.raises(MissingDataError, match=r"FileNotFoundError: .*/no/such/file.*line 4"):
        describe(TrialConfig(dataset="broken"))


class Odd:
    """A dataset whose item is what it is made with."""

    def __init__(self, item: Callable[[int], Any]) -> None:
        self.item = item

    def __len__(self) -> int:
        return 6

    def __getitem__(self, at: int) -> Any:
        return self.item(at)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (lambda at: IMAGES[0], r"train: image 0: must give \(image, label\), but gives ndarray"),
        (lambda at: (IMAGES[0], 0.5), "train: image 0: a label must be a whole number, but is float"),
        (
            lambda at: (torch.zeros(3, 4, 4), 0),
            r"image 0: .*but got float32 \[.*\]; leave out what scales pixels",
        ),
        (
            lambda at: (np.random.default_rng().integers(0, 255, (4, 4), np.uint8), at % 2),
            "train: gives another image 0 each time, .*use the setting `augment`",
        ),
        (lambda at: (IMAGES[0][:, :, : 2 + at % 2], at % 2), "same number of channels, but have 2 and 3"),
    ],
)
def test_datasets_that_cannot_be_used(item: Callable[[int], Any], message: str) -> None:
    with _matching(message):
        raise RuntimeError(_error(lambda: Odd(item)))


def test_a_path_names_it_too(tmp_path: Path) -> None:
    config = TrialConfig(dataset="own_data:Photos", image_size=8, length=10)
    assert describe(config).shape == (3, 8, 8)
    assert config.use == ("own_data",)


def test_it_is_called_once() -> None:
    calls = []

    def counted() -> Any:
        calls.append(1)
        return IMAGES, LABELS

    _register(counted)
    config = identified(
        TrialConfig(dataset="given", val_fraction=0, test_fraction=0.34, monitor="train_accuracy")
    )
    load_data(config)
    assert len(calls) == 1
