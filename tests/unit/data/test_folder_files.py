"""Which files of an image folder are images, which are left out, how that is reported, and the size of the images."""

from __future__ import annotations

import os
import shutil
import zlib
from pathlib import Path

import pytest
from PIL import Image

from lab.config import TrialConfig
from lab.data import data_notes, describe, load_data, settled
from lab.errors import ConfigError, DataError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five cats and five dogs of 16 by 16 pixels, all different."""
    root = tmp_path / "photos"
    for name in ("cat", "dog"):
        for number in range(5):
            write(root / name / f"{number}.png")
    return root


def write(file: Path, size: tuple[int, int] = (16, 16), kind: str = "PNG") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixel = zlib.crc32(str(file).encode())
    Image.new("RGB", size, (pixel % 256, pixel // 256 % 256, 0)).save(file, format=kind)


def config_of(root: Path, **values: object) -> TrialConfig:
    return TrialConfig(
        dataset="image_folder", data_dir=str(root), val_fraction=0.4, test_fraction=0.4, **values
    )


KINDS = {
    "a.jfif": "JPEG",
    "b.jpe": "JPEG",
    "c": "PNG",
    "d.pnm": "PPM",
    "e.jp2": "JPEG2000",
    "f.tga": "TGA",
    "g.avif": "AVIF",
    "h.JPG": "JPEG",
    "i.dat": "WEBP",
    "misnamed.png": "GIF",
}


def test_what_pillow_opens_is_an_image_whatever_its_name(photos: Path) -> None:
    for name, kind in KINDS.items():
        write(photos / "cat" / name, kind=kind)
    assert data_notes(config_of(photos))[0] == "train: 20 images (cat 15, dog 5)"
    dataset = load_data(config_of(photos))
    assert dataset.val is not None
    assert sum(map(len, (dataset.train, dataset.val, dataset.test))) == 20


# contents of a file -> what the error says
UNREADABLE = {
    "j.HEIC": (b"\0\0\0\x18ftypheic", "HEIC, which Pillow reads only with a plug-in"),
    "k.cr2": (b"II*\0", "a raw photograph"),
    "l.jpg": (b"no image", "not an image of a format that Pillow knows"),
    "m.png": (b"", "the file is empty"),
    "n.svg": (b"<svg/>", "not an image of a format that Pillow knows"),
    "o.eps": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "Pillow cannot read EPS by itself",
    ),
    # the header of a Targa file, which has no signature
    "p.bin": (
        bytes([0, 0, 2, *[0] * 9, 4, 0, 4, 0, 24, 0, *[7] * 48]),
        "not an image of a format that Pillow knows",
    ),
}


def test_what_pillow_cannot_open_is_named_and_needs_leave_to_be_left_out(photos: Path) -> None:
    for name, (content, _) in UNREADABLE.items():
        (photos / "dog" / name).write_bytes(content)
    (photos / "dog" / "away.png").symlink_to("/nowhere/away.png")
    (photos / "dog" / "loop").symlink_to("loop")
    for only, reason in [(name, reason) for name, (_, reason) in UNREADABLE.items()] + [
        ("away.png", "a broken link to /nowhere/away.png"),
        ("loop", "a broken link to loop"),
    ]:
        there = photos.parent / f"with {only}"
        shutil.copytree(photos, there, symlinks=True, ignore=_all_but(only))
        with pytest.raises(
            DataError, match=rf"1 of 11 files .*\n  dog/{only}: {reason}.*\nRepair .* --skip-unreadable"
        ):
            describe(config_of(there))
    with pytest.raises(DataError, match=r"9 of 19 files (.*\n){6}  … and 4 more\n"):
        load_data(config_of(photos))
    dataset = load_data(config_of(photos, skip_unreadable=True))
    assert "train: 10 images (cat 5, dog 5)" in dataset.notes
    assert any(note.startswith("left out: 9 files (") and "cannot be read" in note for note in dataset.notes)


def _all_but(name: str) -> object:
    unwanted = {*UNREADABLE, "away.png", "loop"} - {name}
    return lambda folder, names: unwanted & set(names)


def test_a_link_to_a_class_that_is_gone_is_no_missing_class(photos: Path) -> None:
    (photos / "wolf").symlink_to("/nowhere/wolf")
    with pytest.raises(DataError, match="wolf: a broken link to /nowhere/wolf"):
        describe(config_of(photos))


def test_a_class_of_which_nothing_can_be_read_is_an_error(photos: Path) -> None:
    (photos / "wolf").mkdir()
    (photos / "wolf" / "a.heic").write_bytes(b"nothing")
    with pytest.raises(DataError, match="has no readable images of wolf to train on"):
        load_data(config_of(photos, skip_unreadable=True))


def test_litter_is_neither_class_nor_image_and_other_files_are_counted(photos: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "0.png~"):
        (photos / "cat" / name).write_bytes(b"litter")
    for folder in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"):
        write(photos / folder / "0.png")
        write(photos / "dog" / folder / "0.png")
    for name in ("README.md", "LICENSE", "labels.csv", "cat/0.txt", "cat/clip.mp4", "annotations/0.xml"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"beside")
    write(photos / "cover.png")
    os.mkfifo(photos / "dog" / "pipe")
    assert data_notes(config_of(photos)) == (
        "train: 10 images (cat 5, dog 5)",
        "val: cut from train (val_fraction=0.4)",
        "test: cut from train (test_fraction=0.4)",
        "size: 16x16",
        "left out: 1 file (cover.png) next to the class folders",
        "left out: 7 files (no extension, .md, .csv, .xml, .txt, … 1 more) of other types",
        "left out: folders without images: annotations/",
    )


def test_pictures_named_like_documents_are_pictures(photos: Path) -> None:
    for name in ("license.png", "Notice.PNG", "readme.v2.png"):
        write(photos / "cat" / name)
    (photos / "cat" / "LICENSE.MIT").write_bytes(b"beside")
    assert data_notes(config_of(photos))[0] == "train: 13 images (cat 8, dog 5)"


def test_links_are_followed_but_never_to_what_is_read_anyway(photos: Path, tmp_path: Path) -> None:
    write(tmp_path / "far" / "wolf" / "0.png")
    (photos / "wolf").symlink_to(tmp_path / "far" / "wolf")
    (photos / "cat" / "far.png").symlink_to(tmp_path / "far" / "wolf" / "0.png")
    (photos / "cat" / "up").symlink_to(photos)
    (photos / "hound").symlink_to(photos / "dog")
    notes = data_notes(config_of(photos))
    assert notes[0] == "train: 12 images (cat 6, dog 5, wolf 1)"
    assert "left out: links to folders that are read anyway: hound, cat/up" in notes


def test_the_same_image_in_two_classes_or_splits_is_warned_of(photos: Path) -> None:
    root = photos.parent / "splits"
    shutil.copytree(photos, root / "train")
    for name in ("cat", "dog"):
        write(root / "test" / name / "t.png")
    assert not [note for note in data_notes(config_of(root)) if note.startswith("warning")]
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "dog" / "cat.png")
    shutil.copy(root / "train" / "cat" / "1.png", root / "test" / "cat" / "1.png")
    shutil.copy(root / "train" / "cat" / "2.png", root / "train" / "cat" / "2 (copy).png")
    assert [note for note in data_notes(config_of(root)) if note.startswith("warning")] == [
        "warning: 1 image is in several classes: train/cat/0.png = train/dog/cat.png",
        "warning: 1 image is in several splits, so the model is evaluated on images it was trained on:"
        " train/cat/1.png = test/cat/1.png",
        "warning: 1 image is in the same class more than once, and may end up in several splits:"
        " train/cat/2 (copy).png = train/cat/2.png",
    ]


def test_what_was_added_or_written_anew_is_noticed(photos: Path) -> None:
    describe(config_of(photos))
    for number in range(5):
        write(photos / "wolf" / f"{number}.png")
    assert describe(config_of(photos)).classes == ("cat", "dog", "wolf")
    for file in photos.glob("*/*.png"):
        write(file, (8, 8))
    assert load_data(config_of(photos)).shape == (3, 8, 8)


def test_images_of_one_size_keep_it_and_are_the_cell_that_names_it(photos: Path) -> None:
    assert describe(config_of(photos)).shape == (3, 16, 16)
    assert settled(config_of(photos)) == config_of(photos, image_size=16)
    assert load_data(config_of(photos)) is load_data(config_of(photos, image_size=16))
    assert describe(config_of(photos, image_size=8)).shape == (3, 8, 8)
    assert "size: 8x8, resized from 16x16 (10)" in data_notes(config_of(photos, image_size=8))


def test_a_cell_of_an_earlier_version_keeps_its_hash() -> None:
    before = TrialConfig(dataset="image_folder", data_dir="photos", image_size=32)
    assert before.cell_hash == "d2444c1ea4e8871a"
    assert before == TrialConfig(
        dataset="image_folder", data_dir="photos", image_size=32, skip_unreadable=False
    )
    assert settled(before) is before


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ((20, 16), r"20x16 \(10\)"),
        ((2, 2), r"2x2 \(10\)"),
        ((1200, 1200), r"1200x1200 \(10\)"),
        (None, r"16x16 \(9\), 9x7 \(1\)"),
    ],
)
def test_images_of_other_sizes_need_one_and_the_error_names_them(
    size: tuple[int, int] | None, found: str, photos: Path
) -> None:
    for file in [photos / "cat" / "0.png"] if size is None else photos.glob("*/*.png"):
        write(file, size or (9, 7))
    with pytest.raises(DataError, match=rf"set image_size, .* Sizes found: {found}"):
        describe(config_of(photos))
    assert describe(config_of(photos, image_size=16)).shape == (3, 16, 16)


def test_a_class_is_named_in_either_spelling(photos: Path) -> None:
    (photos / "cat").rename(photos / "cafe\u0301")
    for name in ("café", "cafe\u0301"):
        assert describe(config_of(photos, classes=("dog", name))).classes == ("dog", "café")
    with pytest.raises(ConfigError, match="Unknown class '1'"):
        describe(config_of(photos, classes=("dog", "1")))


def test_a_folder_whose_name_is_no_text_can_be_shown(photos: Path) -> None:
    (photos / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(DataError, match=r"no images in caf\\udce9 of "):
        describe(config_of(photos))
