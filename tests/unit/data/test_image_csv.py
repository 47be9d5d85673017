from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lab.config import TrialConfig
from lab.data import Dataset, clear_cache, data_notes, describe, identified, load_data
from lab.errors import ConfigError, DataError, LabError, MissingDataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of two classes, each of its own colour; patients of two images each."""
    root = tmp_path / "data"
    (root / "img").mkdir(parents=True)
    lines = ["Path,label,part,patient"]
    for at in range(12):
        Image.new("RGB", (8, 8), (at, 0, 0)).save(root / "img" / f"{at:02}.png")
        part = "train" if at < 8 else "valid" if at < 10 else "testing"
        lines.append(f"img/{at:02}.png,{'cat' if at % 2 else 'dog'},{part},p{at // 2}")
    (root / "all.csv").write_text("\n".join(lines))
    return root


def _config(root: Path, **values: object) -> TrialConfig:
    return TrialConfig(dataset="image_csv", data_dir=str(root), **values)  # type: ignore[arg-type]


def _reds(dataset: Dataset) -> list[list[int]]:
    parts = (dataset.train, dataset.val, dataset.test)
    return [[] if part is None else part.images[:, 0, 0, 0].tolist() for part in parts]  # type: ignore[attr-defined]


def _error(root: Path, kind: type[LabError] = DataError, **values: object) -> str:
    clear_cache()
    with pytest.raises(kind, match="image_csv") as caught:
        describe(_config(root, **values))
    return str(caught.value)


def test_a_csv_file_with_splits_is_read(folder: Path) -> None:
    config = _config(folder, split_column="part")
    dataset = load_data(config)
    assert describe(config).shape == (3, 8, 8)
    assert dataset.classes == ("cat", "dog")
    assert _reds(dataset) == [list(range(8)), [8, 9], [10, 11]]
    assert dataset.test.labels.tolist() == [1, 0]
    assert data_notes(config) == (
        "read: all.csv (path: Path, label: label, split: part)",
        "train: 8 images (cat 4, dog 4)",
        "val: 2 images (cat 1, dog 1)",
        "test: 2 images (cat 1, dog 1)",
        "size: 8x8",
    )


def test_without_a_split_column_lab_splits(folder: Path) -> None:
    dataset = load_data(_config(folder, test_fraction=0.5, val_fraction=0.34))
    assert [len(part) for part in _reds(dataset)] == [3, 3, 6]


@pytest.mark.parametrize("values", [{"val_fraction": 0.4}, {"folds": 3, "fold": 1}])
def test_no_patient_is_in_two_splits(folder: Path, values: dict[str, object]) -> None:
    dataset = load_data(_config(folder, group_column="patient", test_fraction=0.3, **values))
    patients = [{red // 2 for red in part} for part in _reds(dataset)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6
    assert any(note.startswith("test: 2 of 6 groups, 4 of 12 images") for note in dataset.notes)
    assert "groups: 6 (patient), of 2 to 2 images" in dataset.notes


def test_all_faults_are_told_with_their_lines(folder: Path) -> None:
    lines = (folder / "all.csv").read_text().splitlines()
    lines[2] = lines[2].replace(",cat,", ",,")
    lines[4] = lines[4].replace("train", "fold 3")
    lines[6] += ",more"
    lines[8] = f"./{lines[7]}"
    (folder / "all.csv").write_text("\n".join([*lines, "", ",dog,train,"]))
    assert _error(folder, split_column="part", group_column="patient").splitlines()[1:] == [
        "all.csv:3: has no label",
        "all.csv:5: split 'fold 3' does not mean train, val or test",
        "all.csv:7: has 5 columns, but the header has 4",
        "all.csv:9: ./img/06.png is in line 8 already",
        "all.csv:15: has no path",
        "all.csv:15: has no group",
    ]


def test_a_patient_in_two_splits_of_the_table_is_a_fault(folder: Path) -> None:
    text = (folder / "all.csv").read_text()
    (folder / "all.csv").write_text(text.replace("p4", "p3"))
    message = _error(folder, split_column="part", group_column="patient")
    assert "group p3 is in train and val, but no group may be in two splits" in message


def test_missing_and_broken_images_are_faults_or_left_out(folder: Path) -> None:
    (folder / "img" / "00.png").unlink()
    (folder / "img" / "03.png").write_text("no image")
    message = _error(folder)
    assert "2 of 12 files in" in message
    assert "line 2: img/00.png: No such file or directory" in message
    assert "line 5: img/03.png: not an image of a format that Pillow knows" in message
    dataset = load_data(_config(folder, split_column="part", skip_unreadable=True))
    assert _reds(dataset)[0] == [1, 2, 4, 5, 6, 7]
    assert any(note.startswith("left out: 2 files that cannot be read") for note in dataset.notes)


def test_a_header_that_is_cut_off_and_paths_of_windows(folder: Path) -> None:
    text = (folder / "all.csv").read_text()
    (folder / "all.csv").write_text(text.replace("img/03", r"img\03"))
    assert r"line 5: img\03.png: No such file or directory (folders are separated by /)" in _error(folder)
    (folder / "all.csv").write_text(f'"{text}')
    assert "has a header that cannot be read: unexpected end of data" in _error(folder)


def test_paths_that_no_system_has(folder: Path) -> None:
    text = (folder / "all.csv").read_text().replace("img/02.png", f"{'x' * 5000}/02.png")
    (folder / "all.csv").write_text(text.replace("img/03.png", "img\0/03.png"))
    message = _error(folder)
    assert "/02.png: File name too long" in message
    assert r"line 5: img\x00/03.png: embedded null byte" in message


def test_a_quoted_header_may_contain_the_other_delimiters(folder: Path) -> None:
    text = (folder / "all.csv").read_text().replace(",", ";")
    (folder / "all.csv").write_text(
        text.replace("patient", '"patient, by number, of any hospital, or site"', 1)
    )
    assert describe(_config(folder)).classes == ("cat", "dog")


def test_columns_are_found_or_named(folder: Path) -> None:
    assert (
        "has no column 'patent' (group_column). Did you mean 'patient'? Its columns: Path, label"
        in _error(folder, group_column="patent")
    )
    (folder / "all.csv").write_text("id;what\nimg/00.png;cat\nimg/01.png;dog\n")
    assert (
        "has no column path or file or filename or image; name the one to use with --path-column"
        in _error(folder)
    )
    info = describe(_config(folder, path_column="id", label_column="what"))
    assert info.classes == ("cat", "dog")


def test_two_columns_of_one_name(folder: Path) -> None:
    text = (folder / "all.csv").read_text()
    (folder / "all.csv").write_text(text.replace(",part,", ",label,"))
    for values in ({}, {"label_column": "label"}):
        assert "all.csv has several columns label; rename all but one" in _error(folder, **values)


def test_a_line_of_one_column(folder: Path) -> None:
    (folder / "all.csv").write_text("path,label\nimg/00.png\n")
    assert "all.csv:2: has 1 column, but the header has 2" in _error(folder)


def test_numbers_are_classes_in_their_order(folder: Path) -> None:
    rows = [f"img/{at:02}.png,{at}" for at in range(12)]
    (folder / "all.csv").write_text("\n".join(["file,class", *rows]))
    assert describe(_config(folder)).classes == tuple(map(str, range(12)))
    rows[0] = "img/00.png,01"
    (folder / "all.csv").write_text("\n".join(["file,class", *rows]))
    assert describe(_config(folder)).classes[:3] == ("01", "1", "2")  # in every process


def test_which_csv_file(folder: Path) -> None:
    (folder / "other.csv").write_text("file,class\nimg/00.png,a\nimg/01.png,b\n")
    assert "contains 2 .csv files; name one with --csv-file" in _error(folder)
    assert describe(_config(folder, csv_file="other.csv")).classes == ("a", "b")
    for name in ("third.csv", "x" * 5000):
        assert "there is no file" in _error(folder, MissingDataError, csv_file=name)
    assert "there is no folder" in _error(folder / "nowhere", MissingDataError)


def test_what_a_trial_trains_on_identifies_it(folder: Path) -> None:
    config = _config(folder, split_column="part")
    first = identified(config)
    assert first.data_digest
    (folder / "all.csv").rename(folder / "renamed.csv")
    assert identified(config).cell_hash == first.cell_hash
    text = (folder / "renamed.csv").read_text()
    (folder / "renamed.csv").write_text(text.replace("valid", "train", 1))
    assert identified(config).cell_hash != first.cell_hash


def test_a_changed_table_is_noticed(folder: Path) -> None:
    assert describe(_config(folder)).classes == ("cat", "dog")
    (folder / "all.csv").write_text((folder / "all.csv").read_text().replace("cat", "cow"))
    assert describe(_config(folder)).classes == ("cow", "dog")


def test_folds_contradict_a_validation_split_of_the_table(folder: Path) -> None:
    with pytest.raises(ConfigError, match="this image_csv has one of its own; leave out folds"):
        describe(_config(folder, split_column="part", folds=2, fold=0))


def test_a_class_that_is_only_tested_is_a_fault(folder: Path) -> None:
    (folder / "all.csv").write_text((folder / "all.csv").read_text().replace("11.png,cat", "11.png,emu"))
    assert "every class needs training images, but there are none of emu" in _error(
        folder, split_column="part"
    )
