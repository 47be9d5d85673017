"""Which folders are splits and which are classes, for common layouts of image datasets."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lab.config import TrialConfig
from lab.data import data_notes, describe, load_data
from lab.data.split_names import split_name
from lab.errors import DataError

_numbers = itertools.count()


def make(root: Path, folders: str) -> TrialConfig:
    """Write folders of images, all different: `train/cat:3` is one of 3, `a/b/` an empty one, `a/b=` a file."""
    for item in folders.split():
        name, _, count = item.partition(":")
        path = root / name.rstrip("/=")
        if name.endswith("="):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("text")
            continue
        path.mkdir(parents=True, exist_ok=True)
        for _ in range(0 if name.endswith("/") else int(count or 5)):
            number = next(_numbers)
            Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 0)).save(path / f"{number:06}.png")
    return TrialConfig(dataset="image_folder", data_dir=str(root), val_fraction=0.4, test_fraction=0.4)


def splits(notes: tuple[str, ...]) -> str:
    """Return where each split comes from, in one line: `train a/train, test cut`."""
    lines = (re.match(r"(train|val|test): (?:([^,]*)/, |(cut))?", note) for note in notes)
    return ", ".join(f"{line[1]} {line[2] or line[3] or '.'}" for line in lines if line)


# contents -> where the splits are read from
READ = {
    "cat dog": "train ., val cut, test cut",
    "train/cat train/dog": "train train, val cut, test cut",
    "archive/cat archive/dog": "train archive, val cut, test cut",
    "a/b/c/cat a/b/c/dog README.md=": "train a/b/c, val cut, test cut",
    "train/cat train/dog test/cat test/dog": "train train, test test, val cut",
    "Training/cat Training/dog Testing/cat Testing/dog": "train Training, test Testing, val cut",
    "TRAIN/cat TRAIN/dog TEST/cat TEST/dog": "train TRAIN, test TEST, val cut",
    "training_set/cat training_set/dog test_set/cat test_set/dog": "train training_set, test test_set, val cut",
    "train/cat train/dog val/cat val/dog": "train train, val val, test cut",
    "train/cat train/dog dev/cat dev/dog": "train train, val dev, test cut",
    "train/cat train/dog valid/cat valid/dog test/cat test/dog README.dataset.txt= README.roboflow.txt=": (
        "train train, val valid, test test"
    ),
    "data/train/cat data/train/dog data/validation/cat data/validation/dog data/test/cat data/test/dog": (
        "train data/train, val data/validation, test data/test"
    ),
    "x/seg_train/seg_train/cat x/seg_train/seg_train/dog x/seg_test/seg_test/cat x/seg_test/seg_test/dog"
    " x/seg_pred/seg_pred": "train x/seg_train/seg_train, test x/seg_test/seg_test, val cut",
    "TrainSet/cat TrainSet/dog testset/cat testset/dog": "train TrainSet, test testset, val cut",
    "train_images/cat train_images/dog images-val/cat images-val/dog": "train train_images, val images-val, test cut",
    "train/img/cat train/img/dog test/img/cat test/img/dog": "train train/img, test test/img, val cut",
    "pets_train/cat pets_train/dog pets_test/cat pets_test/dog": "train pets_train, test pets_test, val cut",
    "img_train2012/cat img_train2012/dog img_val2012/cat img_val2012/dog": (
        "train img_train2012, val img_val2012, test cut"
    ),
    "test_project/train/cat test_project/train/dog test_project/val/cat test_project/val/dog": (
        "train test_project/train, val test_project/val, test cut"
    ),
    "train/cat train/dog test/cat test/dog labels/cat.csv= __MACOSX/train/._cat=": "train train, test test, val cut",
    "@eaDir/cat/a.jpg= .ipynb_checkpoints/a.png= cat dog": "train ., val cut, test cut",
}


@pytest.mark.parametrize("folders", READ)
def test_known_layouts_are_read_as_what_they_are(folders: str, tmp_path: Path) -> None:
    config = make(tmp_path, folders)
    assert describe(config).classes == ("cat", "dog")
    assert splits(data_notes(config)) == READ[folders]


# a class may be named like a split: its contents and its siblings decide
CLASSES = {
    "bus train truck": "bus train truck",
    "bus train train/steam:1 truck": "bus train truck",
    "train/bus train/train test/bus test/train": "bus train",
    "control test": "control test",
    "invalid valid": "invalid valid",
    "beaker test_tube": "beaker test_tube",
    "cat/persian dog/pug": "cat dog",
    "cat/images dog/images": "cat dog",
    "cat/kitten cat dog": "cat dog",
    "train/real train/fake valid/real valid/fake": "fake real",
    "cafe\u0301 dog": "café dog",
    "café cafe\u0301 dog": "café dog",
    "train/café train/dog test/cafe\u0301 test/dog": "café dog",
    "1 01 2": "01 1 2",
}


@pytest.mark.parametrize("folders", CLASSES)
def test_class_folders_are_told_from_splits(folders: str, tmp_path: Path) -> None:
    assert list(describe(make(tmp_path, folders)).classes) == CLASSES[folders].split()


# contents -> what the error says
REFUSED = {
    "train/cat train/dog cats dogs": "cats/ and dogs/ are not a split",
    "train1/cat train1/dog train2/cat train2/dog": "train1/ and train2/ all seem to be for train",
    "train/cat train/dog val/cat val/dog valid/cat valid/dog": "val/ and valid/ all seem to be for val",
    "fold1/cat fold1/dog fold2/cat fold2/dog": "the names do not say what fold1/ and fold2/ are for",
    "fold_1 fold_2 fold_3": "fold_1/, fold_2/ and fold_3/ contain images but no class folders",
    "labeled/cat labeled/dog unlabeled": "the names do not say what labeled/ is for",
    "cat dog unlabeled": "unlabeled/ is next to cat/ and dog/, which are not a split",
    "cat train test": "test/ and train/ are next to cat/, which is not a split",
    "train test": "test/ and train/ contain images but no class folders",
    "train:9": "train/ contains images but no class folders",
    "train/cat train/dog test": "test/ contains images but no class folders (pass the folder to train on as DIR",
    "test/cat test/dog": "there is only test/ and nothing to train on (pass that folder as DIR",
    "val/cat val/dog test/cat test/dog": "there is only test/ and val/ and nothing to train on",
    "cats_train/a cats_train/b dogs_test/a dogs_test/b": "their names refer to different things: cats and dogs",
    "2019/cat 2019/dog 2020/cat 2020/dog": "2019/ and 2020/ both have the folders cat and dog",
    "entrenamiento/cat entrenamiento/dog prueba/cat prueba/dog": "both have the folders cat and dog",
    "cat/train cat/test dog/train dog/test": "cat/ and dog/ both have the folders test and train",
    "train/fold1/cat train/fold1/dog train/fold2/cat train/fold2/dog": "the names do not say what fold1/ and fold2/",
    "train/a/cat train/a/dog train/b/cat train/b/dog test/cat test/dog": "a/ and b/ both have the folders cat and dog",
    "x/train/cat x/train/dog x/x/train/cat x/x/train/dog": "x/ is not a split",
}


@pytest.mark.parametrize("folders", REFUSED)
def test_what_looks_like_splits_and_is_not_understood_is_refused(folders: str, tmp_path: Path) -> None:
    config = make(tmp_path, folders)
    with pytest.raises(DataError, match=re.escape(REFUSED[folders])) as caught:
        describe(config)
    message = str(caught.value)
    assert "\nFound: " in message
    assert "\nExpected: DIR/CLASS/*.jpg, or DIR/train/CLASS/*.jpg" in message
    assert "name them: --classes" in message


def test_the_user_may_say_that_they_are_the_classes(tmp_path: Path) -> None:
    config = make(tmp_path, "fold1/cat fold1/dog fold2/cat fold2/dog")
    named = config.model_copy(update={"classes": ("fold2", "fold1")})
    assert describe(named).classes == ("fold2", "fold1")
    assert load_data(named).classes == ("fold2", "fold1")


NO_CLASSES = {
    "cat": "at least 2 classes are needed, but .* contains only the class folder cat",
    "": "at least 2 classes are needed, but .* contains no class folders",
    "train/cat:3": "only the class folder cat",
    "cat dog none/": "no images in none of .*; add some, or remove the empty folders",
    "train/cat train/dog test/cat test/wolf": "only test/ has wolf and only train/ has dog",
    "train/cat train/dog val/cat val/dog val/wolf test/cat": "only val/ has wolf",
}


@pytest.mark.parametrize("folders", NO_CLASSES)
def test_folders_without_the_classes_to_train_on_are_refused(folders: str, tmp_path: Path) -> None:
    config = make(tmp_path, folders)
    with pytest.raises(DataError, match=NO_CLASSES[folders]):
        describe(config)


def test_the_validation_folder_is_the_validation_split(tmp_path: Path) -> None:
    config = make(tmp_path, "train/cat:6 train/dog:6 valid/cat:2 valid/dog:2 test/cat:3 test/dog:4")
    dataset = load_data(config)
    assert dataset.val is not None
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [12, 4, 7]
    assert dataset.val.labels.tolist() == [0, 0, 1, 1]
    assert dataset.notes[:3] == (
        "train: train/, 12 images (cat 6, dog 6)",
        "val: valid/, 4 images (cat 2, dog 2)",
        "test: test/, 7 images (cat 3, dog 4)",
    )


def test_a_class_that_a_split_lacks_is_warned_of(tmp_path: Path) -> None:
    config = make(tmp_path, "train/cat train/dog val/cat val/dog/ test/cat test/dog")
    assert "warning: val/ (val) has no images of dog" in data_notes(config)


def test_an_archive_packed_with_itself_is_read_once(tmp_path: Path) -> None:
    make(tmp_path / "xray", "train/cat train/dog test/cat test/dog")
    shutil.copytree(tmp_path / "xray", tmp_path / "xray" / "xray")
    config = TrialConfig(dataset="image_folder", data_dir=str(tmp_path))
    assert splits(data_notes(config)) == "train xray/train, test xray/test, val cut"
    assert "left out: xray/xray/, 20 images: a copy of the splits next to it" in data_notes(config)
    (tmp_path / "xray" / "xray" / "test" / "dog").rename(tmp_path / "xray" / "xray" / "test" / "wolf")
    with pytest.raises(DataError, match="xray/ is not a split"):
        describe(config)


@pytest.mark.parametrize(
    ("name", "role", "rest"),
    [
        *(
            ("train", "train", ""),
            ("Testing", "test", ""),
            ("seg_pred", "unlabelled", ""),
            ("VAL", "val", ""),
        ),
        *(
            ("validation_split", "val", ""),
            ("trainA", "train", "a"),
            ("cats-test", "test", "cats"),
            ("cv_0", "unknown", ""),
        ),
        *(("train_test", "unknown", ""), ("trainingData64", "train", "")),
    ],
)
def test_the_names_of_splits(name: str, role: str, rest: str) -> None:
    assert split_name(name) == (role, rest)


@pytest.mark.parametrize(
    "name", ["cat", "invalid", "restrain", "contest", "latest", "trainer", "device", "apartment", ""]
)
def test_names_that_hold_such_a_word_by_chance(name: str) -> None:
    assert split_name(name) is None
