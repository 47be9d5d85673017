from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lab.config import TrialConfig
from lab.data import DataInfo, Dataset, MemorySplit, RawData, describe, load_data, normalise
from lab.data.subset import draw_sample, select_classes
from lab.errors import ConfigError, DataError

_NAMES = ("ant", "bee", "cat", "dog", "eel")


def _split(labels: list[int]) -> MemorySplit:
    """Images whose pixels are their index and their label."""
    pixels = torch.tensor([[place, label] for place, label in enumerate(labels)], dtype=torch.uint8)
    return MemorySplit(pixels.view(-1, 2, 1, 1), torch.tensor(labels))


def _config(**values: Any) -> TrialConfig:
    return TrialConfig(**{"dataset": "synthetic", "image_size": 8, **values})


def _counts(split: MemorySplit | None, classes: int) -> list[int]:
    assert split is not None
    return torch.bincount(split.labels, minlength=classes).tolist()


_some = st.lists(st.sampled_from(_NAMES), min_size=2, unique=True)


@given(st.lists(st.integers(0, 4), max_size=40), st.permutations(range(5)), _some)
def test_every_image_of_the_classes_is_kept_under_its_name(
    more: list[int], every: list[int], classes: list[str]
) -> None:
    split = _split([*every, *more])
    raw = select_classes(RawData(split, split, _NAMES, "here"), tuple(classes))
    assert raw.classes == tuple(classes)
    assert raw.source == "here"
    expected = [place for place, label in enumerate([*every, *more]) if _NAMES[label] in classes]
    for part in (raw.train, raw.test):
        assert part is not None
        places, old = part.images.flatten(1).long().unbind(1)
        assert places.tolist() == expected
        assert [classes[label] for label in part.labels.tolist()] == [_NAMES[label] for label in old.tolist()]


def test_no_classes_are_all_of_them() -> None:
    raw = RawData(_split([0, 1]), None, _NAMES, "here")
    assert select_classes(raw, ()) is raw


@pytest.mark.parametrize(("train", "test", "what"), [([4], [0], "training"), ([0], [4], "test")])
def test_a_split_without_an_image_of_the_classes_is_an_error(
    train: list[int], test: list[int], what: str
) -> None:
    raw = RawData(_split(train), _split(test), _NAMES, "here")
    with pytest.raises(DataError, match=rf"classes=ant,bee leaves no {what} images"):
        select_classes(raw, ("ant", "bee"))


@given(st.lists(st.integers(0, 2), min_size=60, max_size=90), st.integers(3, 24), st.integers(0, 2**64))
def test_a_sample_is_balanced_and_in_order(labels: list[int], samples: int, seed: int) -> None:
    split = _split([0] * 8 + [1] * 8 + [2] * 8 + labels)
    sample = draw_sample(split, samples=samples, seed=seed, classes=_NAMES[:3])
    counts = torch.bincount(sample.labels, minlength=3)
    assert counts.sum() == samples
    assert counts.max() - counts.min() <= 1
    assert counts.tolist() == sorted(counts.tolist(), reverse=True)  # the remainder goes to the first
    places, old = sample.images.flatten(1).unbind(1)
    assert torch.equal(old, sample.labels)
    assert places.tolist() == sorted(set(places.tolist()))


@given(st.integers(3, 30), st.integers(3, 30), st.integers(0, 2**32 - 1))
def test_a_smaller_sample_is_part_of_a_larger_one(one: int, other: int, seed: int) -> None:
    split = _split([0, 1, 2] * 10)
    small, large = (
        set(
            draw_sample(split, samples=samples, seed=seed, classes=_NAMES[:3]).images[:, 0].flatten().tolist()
        )
        for samples in sorted((one, other))
    )
    assert small <= large


def test_a_sample_is_seeded() -> None:
    split = _split([0, 1] * 100)
    first, again, other = (
        draw_sample(split, samples=40, seed=seed, classes=("a", "b")).images for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_class_with_too_few_images_for_the_sample_is_named() -> None:
    split = _split([0] * 9 + [1] * 3 + [2] * 2)
    with pytest.raises(
        DataError, match=r"train_samples=13 .* only 3 of bee \(needed: 4\), 2 of cat \(needed: 4\); lower"
    ):
        draw_sample(split, samples=13, seed=0, classes=_NAMES[:3])


def test_a_dataset_of_some_classes_is_as_described() -> None:
    config = _config(classes=("pattern7", "pattern2", "pattern4"), train_samples=50)
    info, dataset = describe(config), load_data(config)
    assert info == DataInfo((3, 8, 8), ("pattern7", "pattern2", "pattern4"), 2_000)
    assert dataset.classes == info.classes
    assert _counts(dataset.train, 3) == [17, 17, 16]
    assert _counts(dataset.val, 3) == [20] * 3  # taken from all training images, before the sample is drawn
    assert _counts(dataset.test, 3) == [50] * 3
    whole = load_data(_config())
    assert torch.equal(
        dataset.test.images[dataset.test.labels == 0], whole.test.images[whole.test.labels == 7]
    )


def test_classes_count_before_the_splits_and_the_sample_after_them() -> None:
    config = {"dataset": "digits", "classes": ("9", "0")}
    dataset = load_data(TrialConfig(**config, train_samples=100))
    whole = load_data(TrialConfig(**config))
    assert dataset.val is not None
    assert whole.val is not None
    assert torch.equal(dataset.val.images, whole.val.images)
    assert torch.equal(dataset.test.images, whole.test.images)
    assert len(whole.train) + len(whole.val) + len(whole.test) == 178 + 180
    assert {image.numpy().tobytes() for image in dataset.train.images} <= {
        image.numpy().tobytes() for image in whole.train.images
    }


def test_statistics_and_digest_are_of_the_sample() -> None:
    dataset, whole = load_data(_config(train_samples=20)), load_data(_config())
    pixels = dataset.train.images.double() / 255
    torch.testing.assert_close(dataset.mean.double(), pixels.mean((0, 2, 3)), rtol=0, atol=1e-6)
    torch.testing.assert_close(dataset.std.double(), pixels.std((0, 2, 3), correction=0), rtol=0, atol=1e-6)
    assert dataset.digest != whole.digest


def test_a_sample_and_a_subset_share_the_images_of_the_whole() -> None:
    dataset = load_data(_config(classes=("pattern0", "pattern1"), train_samples=10))
    assert isinstance(dataset.val, MemorySplit)
    assert dataset.train.pixels is dataset.val.pixels
    assert len(dataset.train.pixels) == 2_000
    assert dataset.train.images.is_contiguous(memory_format=torch.channels_last)


def test_on_another_device_a_sample_holds_its_own_images_only() -> None:
    sample = load_data(_config(train_samples=10)).train
    moved = sample.to(torch.device("meta"))
    assert sample.to(torch.device("cpu")) is sample
    assert moved.device.type == "meta"
    assert moved.images.untyped_storage().nbytes() == sample.images.numel()


@pytest.mark.parametrize(
    "values",
    [{"classes": ("pattern0", "pattern1")}, {"train_samples": 30}, {"input_scale": "unit"}],
    ids=lambda values: next(iter(values)),
)
def test_each_field_makes_another_dataset(values: dict[str, Any]) -> None:
    first = load_data(_config())
    other = load_data(_config(**values))
    assert other is not first
    assert load_data(_config(**values)) is other
    assert load_data(_config()) is first


def _normalised(dataset: Dataset) -> torch.Tensor:
    return normalise(dataset.train.images, dataset.mean, dataset.std)


def test_the_input_scale_is_what_normalise_gives() -> None:
    raw, unit, standard = (
        _normalised(load_data(_config(input_scale=scale))) for scale in ("raw", "unit", "standard")
    )
    pixels = load_data(_config()).train.images
    assert torch.equal(raw, pixels.float())
    torch.testing.assert_close(unit, pixels / 255, rtol=0, atol=1e-6)
    torch.testing.assert_close(standard.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(standard.std((0, 2, 3)), torch.ones(3), rtol=0, atol=1e-4)


def _both_refuse(config: TrialConfig, match: str, key: str) -> None:
    for find in (describe, load_data):
        with pytest.raises(ConfigError, match=match) as caught:
            find(config)
        assert [fault.key for fault in caught.value.faults] == [key]


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        (("pattern1", "patern2"), r"Unknown class 'patern2'\. Did you mean 'pattern\d'\? Known: pattern0, "),
        (("x", "pattern1", "y"), r"Unknown class 'x'\. Unknown class 'y'\. Known: pattern0, .*pattern9$"),
        (("pattern3", "pattern1", "pattern3"), r"must name each class once, but repeats pattern3$"),
        (("pattern3",), r"must name at least 2 classes, but got only pattern3"),
    ],
)
def test_classes_that_cannot_be_kept_are_refused(classes: tuple[str, ...], match: str) -> None:
    _both_refuse(_config(classes=classes), match, "classes")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"train_samples": 9}, r"must be at least 1 for each of the 10 classes, but got 9"),
        (
            {"train_samples": 2, "classes": ("pattern0", "pattern1", "pattern2")},
            "each of the 3 classes, but got 2",
        ),
        (
            {"train_samples": 1_801},
            r"at most 1800, the training images of synthetic less val_fraction=0\.1, but got 1801",
        ),
        (
            {"train_samples": 2_001, "val_fraction": 0.0, "monitor": "train_loss"},
            r"at most 2000, the training images of synthetic, but got 2001",
        ),
    ],
)
def test_samples_that_there_cannot_be_are_refused(values: dict[str, Any], match: str) -> None:
    _both_refuse(_config(**values), match, "train_samples")


def test_as_many_samples_as_there_are_is_all_of_them() -> None:
    assert load_data(_config(train_samples=1_800)).digest == load_data(_config()).digest


def test_a_class_is_named_without_control_characters() -> None:
    with pytest.raises(DataError, match=r"only 1 of \\x1b\[2J \(needed: 2\)"):
        draw_sample(_split([0, 0, 1]), samples=4, seed=0, classes=("a", "\x1b[2J"))


def test_samples_that_only_loading_can_count_are_refused_then() -> None:
    config = _config(classes=("pattern0", "pattern1"), train_samples=1_000)
    describe(config)
    with pytest.raises(
        DataError, match=r"train_samples=1000 .* only 180 of pattern0 \(needed: 500\), 180 of"
    ):
        load_data(config)


def test_all_faults_are_told_at_once() -> None:
    config = _config(classes=("pattern0", "no"), train_samples=1, augment=("random_crop",), crop_padding=8)
    with pytest.raises(ConfigError, match="Unknown class 'no'") as caught:
        describe(config)
    assert [fault.key for fault in caught.value.faults] == ["classes", "train_samples", "crop_padding"]
    assert "must be less than the shorter side of the images (8), but got 8" in str(caught.value)


def test_an_image_folder_is_sampled_by_class_too(tmp_path: Path) -> None:
    for grey, name in enumerate(("ant", "bee", "cat")):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (4, 4), (80 * grey, number, 0)).save(folder / f"{number:02}.png")
    config = TrialConfig(
        dataset="image_folder",
        data_dir=str(tmp_path / "pictures"),
        image_size=4,
        val_fraction=0.25,
        classes=("cat", "ant"),
        train_samples=8,
    )
    assert describe(config) == DataInfo((3, 4, 4), ("cat", "ant"))
    dataset = load_data(config)
    assert _counts(dataset.train, 2) == [4, 4]
    assert dataset.test.images[:, 0, 0, 0].tolist() == [
        (160, 0)[label] for label in dataset.test.labels.tolist()
    ]
