from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lab.config import TrialConfig
from lab.data import Dataset, clear_cache, load_data
from lab.data import cache as disk
from lab.data.decode import decode
from lab.data.progress import track
from lab.errors import DataError, LabWarning


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten images each, in train/ and test/."""
    root = tmp_path / "pictures"
    for part in ("train", "test"):
        _write_classes(root / part)
    return root


def _write_classes(folder: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> None:
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            grey = 40 * label + number
            Image.new("RGB", (12, 8), (grey, grey, 200)).save(folder / name / f"{number:02}.png")


def _load(root: Path, **values: object) -> Dataset:
    clear_cache()
    settings: dict[str, object] = {"image_size": 8, "val_fraction": 0.2, **values}
    return load_data(TrialConfig(dataset="image_folder", data_dir=str(root), **settings))


def test_a_folder_with_train_and_test_is_read(folder: Path) -> None:
    dataset = _load(folder)
    assert dataset.val is not None
    assert dataset.classes == ("cat", "dog")
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [16, 4, 20]
    assert dataset.test.images.shape == (20, 3, 8, 8)
    assert dataset.test.images[:, 0, 0, 0].tolist() == [*range(10), *range(40, 50)]
    assert dataset.test.labels.tolist() == [0] * 10 + [1] * 10
    assert dataset.source == str(folder)


def test_a_folder_of_classes_is_split_by_us(folder: Path) -> None:
    dataset = _load(folder / "train", test_fraction=0.3)
    assert dataset.val is not None
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [11, 3, 6]


@pytest.mark.parametrize("val_fraction", [0.2, 0.5])
def test_no_split_keeps_the_memory_of_another(val_fraction: float, folder: Path) -> None:
    dataset = _load(folder, val_fraction=val_fraction)
    assert dataset.val is not None
    for split in (dataset.train, dataset.val, dataset.test):
        assert split.images.untyped_storage().nbytes() == split.images.numel()


def test_hidden_files_other_files_and_loops_are_left_out(folder: Path) -> None:
    cats = folder / "train" / "cat"
    (cats / ".hidden.png").write_bytes(b"nothing")
    (cats / "Thumbs.db").write_bytes(b"nothing")
    (cats / ".git").mkdir()
    (cats / ".git" / "a.png").write_bytes(b"nothing")
    for target, name in ((cats, "self"), (folder, "up"), (folder / "train" / "dog", "dogs")):
        (cats / name).symlink_to(target)
    (folder / "train" / "notes.txt").write_text("not a class")
    dataset = _load(folder)
    assert dataset.val is not None
    assert len(dataset.train) + len(dataset.val) == 20


def test_folders_below_a_class_and_linked_classes_belong_to_it(folder: Path, tmp_path: Path) -> None:
    _write_classes(tmp_path / "far", ("away",))
    (folder / "train" / "cat" / "more").symlink_to(tmp_path / "far" / "away")
    dataset = _load(folder)
    assert dataset.val is not None
    assert len(dataset.train) + len(dataset.val) == 30


def test_the_second_load_decodes_nothing(folder: Path, cache: Path) -> None:
    first = _load(folder)
    (kept,) = cache.iterdir()
    written = kept.stat().st_mtime_ns
    again = _load(folder)
    assert again.digest == first.digest
    assert [file.stat().st_mtime_ns for file in cache.iterdir()] == [written]


def test_the_cache_serves_a_copy_of_the_folder_elsewhere(folder: Path, cache: Path) -> None:
    _load(folder)
    folder.rename(folder.parent / "moved")
    _load(folder.parent / "moved")
    assert len(list(cache.iterdir())) == 1


def test_changed_content_is_noticed_even_with_the_same_size_and_time(folder: Path) -> None:
    file = folder / "test" / "cat" / "00.png"
    first, stat = _load(folder), file.stat()
    content = file.read_bytes()
    Image.new("RGB", (12, 8), (5, 5, 201)).save(file)
    assert len(file.read_bytes()) == len(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert _load(folder).digest != first.digest


def test_another_picture_size_is_noticed_even_with_the_same_size_and_time_of_the_files(
    tmp_path: Path,
) -> None:
    def write(width: int, height: int) -> None:
        for name in ("cat", "dog"):
            for number in range(6):
                file = tmp_path / "all" / name / f"{number}.bmp"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (width, height), (number, 5, 201)).save(file)
                os.utime(file, ns=(10**18, 10**18))

    write(8, 8)
    assert _load(tmp_path / "all", image_size=None).shape == (3, 8, 8)
    write(16, 4)
    with pytest.raises(DataError, match="set image_size"):
        _load(tmp_path / "all", image_size=None)


def test_another_size_is_another_cache_entry(folder: Path, cache: Path) -> None:
    _load(folder)
    _load(folder, image_size=4)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_cache_is_rebuilt(damage: str, folder: Path, cache: Path) -> None:
    first = _load(folder)
    (kept,) = cache.iterdir()
    content = bytearray(kept.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 255
    damaged = {"cut": content[:-100], "flip": content, "empty": b"", "text": b"hello"}[damage]
    kept.write_bytes(damaged)
    assert _load(folder).digest == first.digest
    assert np.load(kept, allow_pickle=False).shape == (40, 8, 8, 3)


def test_an_unwritable_cache_only_warns(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(LabWarning, match="cannot be cached .* set LAB_CACHE_DIR"):
        dataset = _load(folder)
    assert len(dataset.test) == 20


def test_two_writers_at_once_leave_one_whole_file(cache: Path) -> None:
    images = np.arange(200 * 8 * 8 * 3, dtype=np.uint32).astype(np.uint8).reshape(200, 8, 8, 3)
    threads = [threading.Thread(target=disk.write_cache, args=("images", "key", images)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.name for file in cache.iterdir()] == ["key.npy"]
    stored = disk.read_cache("images", "key")
    assert stored is not None
    assert np.array_equal(stored, images)


def test_files_that_are_no_images_are_named_up_to_five(folder: Path, cache: Path) -> None:
    cats = folder / "train" / "cat"
    (cats / "text.png").write_text("no image")
    (cats / "empty.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 42 files in .* cannot be read as images") as caught:
        _load(folder)
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        "  train/cat/empty.jpg: the file is empty",
        "  train/cat/text.png: not an image of a format that Pillow knows",
        "Repair or remove them, or leave them out with --skip-unreadable (`skip_unreadable: true`)",
    ]
    for number in range(4):
        (cats / f"x{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"(?s)6 of 46 .* images:(\n  [^\n]+){5}\n  … and 1 more\nRepair"):
        _load(folder)


def test_damaged_images_are_named_by_decoding_and_left_out_where_that_is_asked_for(
    folder: Path, cache: Path
) -> None:
    cut = folder / "train" / "cat" / "cut.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(cut)
    cut.write_bytes(cut.read_bytes()[:900])
    with pytest.raises(DataError, match=r"1 of 41 files .*\n  train/cat/cut.jpg: .*truncated"):
        _load(folder)
    assert not cache.exists()
    for _ in range(2):  # decoded, and from the cache
        dataset = _load(folder, skip_unreadable=True, val_fraction=0.0, monitor="train_accuracy")
        assert [len(dataset.train), len(dataset.test)] == [20, 20]
        assert dataset.test.images[:, 0, 0, 0].tolist() == [*range(10), *range(40, 50)]
        assert "left out: 1 damaged image (skip_unreadable)" in dataset.notes


def test_a_decompression_bomb_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90)  # twice 12x8 or more raises, below Pillow only warns
    with (
        pytest.warns(Image.DecompressionBombWarning, match="exceeds limit"),
        pytest.raises(
            DataError, match=r"00.png: .*12x8 pixels exceed the limit of 90; it could be a decompression"
        ),
    ):
        _load(folder)


def test_a_missing_folder_explains_the_layout(tmp_path: Path) -> None:
    expected = rf"no folder {tmp_path}/none; expected DIR/CLASS/\*\.jpg, or DIR/train/CLASS/\*\.jpg .* with --data-dir"
    with pytest.raises(DataError, match=expected):
        _load(tmp_path / "none")


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"at least 2 classes .* {tmp_path} contains no class folders"):
        _load(tmp_path)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    _write_classes(tmp_path / "one", ("cat",))
    with pytest.raises(DataError, match="only the class folder cat"):
        _load(tmp_path / "one")


def test_a_class_without_images_is_named(folder: Path) -> None:
    for file in (folder / "train" / "dog").iterdir():
        file.unlink()
    with pytest.raises(
        DataError, match=r"no images in train/dog of .* add some, or remove the empty folders"
    ):
        _load(folder)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    grey = np.full((6, 6), 200, np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 256 if mode == "I;16" else grey)
    suffix = "tif" if mode == "CMYK" else "png"
    file = tmp_path / f"x.{suffix}"
    (image if mode == "I;16" else image.convert(mode)).save(file)
    pixels = decode(str(file), 4)
    assert pixels.shape == (4, 4, 3)
    assert pixels.mean() == pytest.approx(200, abs=60)


def test_a_turned_photograph_is_set_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "x.jpg", exif=exif, quality=95)
    pixels = decode(str(tmp_path / "x.jpg"), 8)
    assert pixels[:3].max() < 30
    assert pixels[-3:].min() > 220


def test_progress_shows_on_a_terminal_once_it_takes_long() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    sized = [(2, "a"), (2, "b")]
    assert list(track(sized, 4, "Decoding", console=terminal, patience=0)) == ["a", "b"]
    assert "Decoding" in terminal.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_silent_when_quick_or_not_on_a_terminal(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    patience = 60.0 if terminal else 0.0
    assert list(track([(1, "a")], 1, "Decoding", console=console, patience=patience)) == ["a"]
    assert "Decoding" not in console.file.getvalue()  # type: ignore[attr-defined]
