"""Tables in the layouts of Hugging Face: Parquet files, and what `save_to_disk` writes."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lab import children
from lab.config import TrialConfig
from lab.data import Dataset, clear_cache, data_notes, describe, identified, images_at, load_data, rows
from lab.errors import DataError, LabError, MissingDataError


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_share", Fraction(1, 10_000))  # one process: faster to start


def picture(red: int, side: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (red, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def table(reds: Sequence[int], names: Sequence[str] | None = ("dog", "cat"), **more: Any) -> Any:
    """Return images of one red each, labelled by whether it is odd; `more` are further columns, or replace some."""
    images = [{"bytes": picture(red), "path": f"{red}.png"} for red in reds]
    columns = {"image": images, "label": [red % 2 for red in reds], **more}
    found = pa.table(columns)
    if names is None:
        return found
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
    return found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Parquet files of 8, 2 and 2 images, the training images in two files."""
    root = tmp_path / "hub"
    (root / "data").mkdir(parents=True)
    for name, reds in {
        "train-00000-of-00002": range(5),
        "train-00001-of-00002": range(5, 8),
        "validation-00000-of-00001": (8, 9),
        "test-00000-of-00001": (10, 11),
    }.items():
        pq.write_table(table(reds), root / "data" / f"{name}.parquet", row_group_size=2)
    return root


def save_to_disk(root: Path, found: Any) -> None:
    """Write a table as `datasets` does: Arrow's stream format, and which files there are."""
    root.mkdir(parents=True)
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    with (
        pa.OSFile(str(root / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, found.schema) as out,
    ):
        out.write_table(found, max_chunksize=3)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    root = tmp_path / "saved"
    for split, reds in {"train": range(8), "validation": (8, 9), "test": (10, 11), "extra": (12,)}.items():
        save_to_disk(root / split, table(reds))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test", "extra"]}))
    return root


def _config(root: Path, **values: object) -> TrialConfig:
    return TrialConfig(**{"dataset": "parquet", "data_dir": str(root), **values})  # type: ignore[arg-type]


def _reds(dataset: Dataset) -> list[list[int]]:
    parts = (dataset.train, dataset.val, dataset.test)
    return [[] if part is None else images_at(part, range(len(part)))[:, 0, 0, 0].tolist() for part in parts]


def _error(root: Path, kind: type[LabError] = DataError, **values: object) -> str:
    clear_cache()
    with pytest.raises(kind, match=r"parquet|hf") as caught:
        describe(_config(root, **values))
    return str(caught.value)


def test_parquet_files_name_their_splits(folder: Path) -> None:
    config = _config(folder)
    dataset = load_data(config)
    assert describe(config).shape == (3, 8, 8)
    assert dataset.classes == ("dog", "cat")  # in the order of the numbers, not of the names
    assert _reds(dataset) == [list(range(8)), [8, 9], [10, 11]]
    assert dataset.test.labels.tolist() == [0, 1]
    assert data_notes(config) == (
        "read: data/test-00000-of-00001.parquet, data/train-00000-of-00002.parquet,"
        " data/train-00001-of-00002.parquet, data/validation-00000-of-00001.parquet (image: image, label: label)",
        "train: 8 images (cat 4, dog 4)",
        "val: 2 images (cat 1, dog 1)",
        "test: 2 images (cat 1, dog 1)",
        "size: 8x8",
    )


def test_folders_of_parts_as_spark_and_dask_write_them(tmp_path: Path) -> None:
    fractions = {"val_fraction": 0.25, "test_fraction": 0.25}
    for split, reds in {"train": range(8), "test": (10, 11)}.items():
        (tmp_path / f"{split}.parquet").mkdir()
        pq.write_table(table(reds), tmp_path / f"{split}.parquet" / "part-00000-5a3f.snappy.parquet")
    assert _reds(load_data(_config(tmp_path, **fractions)))[2] == [10, 11]
    parts = tmp_path / "train.parquet"
    pq.write_table(table(range(8, 12)), parts / "part.1.parquet")
    found = _reds(load_data(_config(parts, **fractions)))
    assert sorted(red for part in found for red in part) == list(range(12))


def test_what_save_to_disk_writes(saved: Path) -> None:
    config = _config(saved, dataset="hf")
    dataset = load_data(config)
    assert _reds(dataset) == [list(range(8)), [8, 9], [10, 11]]
    assert dataset.classes == ("dog", "cat")
    assert "left out: extra, which are not train, val or test" in data_notes(config)
    assert _reds(load_data(_config(saved / "train", dataset="hf", val_fraction=0.25, test_fraction=0.25)))[1]


def test_both_layouts_are_the_same_data(folder: Path, saved: Path) -> None:
    one, other = identified(_config(folder)), identified(_config(saved, dataset="hf"))
    assert one.data_digest == other.data_digest


@pytest.mark.parametrize("dataset", ["parquet", "hf"])
def test_they_stream(folder: Path, saved: Path, dataset: str) -> None:
    root = folder if dataset == "parquet" else saved
    in_memory = _reds(load_data(_config(root, dataset=dataset, image_size=4)))
    clear_cache()
    streamed = load_data(_config(root, dataset=dataset, image_size=4, data_in_memory=False))
    assert any("data_in_memory: false" in note for note in streamed.notes)
    assert _reds(streamed) == in_memory
    order = torch.tensor([7, 0, 3])
    ((images, labels),) = streamed.train.batches([(0, 3)], order)
    assert (images[:, 0, 0, 0].tolist(), labels.tolist()) == ([7, 0, 3], [1, 0, 1])


def test_columns_of_splits_and_groups(folder: Path) -> None:
    (folder / "data").rename(folder / "old")
    for file in (folder / "old").iterdir():
        file.unlink()
    parts = ["train"] * 6 + ["dev"] * 2 + ["test"] * 4
    pq.write_table(
        table(range(12), part=parts, patient=[red // 2 for red in range(12)]), folder / "all.parquet"
    )
    assert _reds(load_data(_config(folder, split_column="part"))) == [
        list(range(6)),
        [6, 7],
        list(range(8, 12)),
    ]
    grouped = load_data(_config(folder, group_column="patient", test_fraction=0.3, val_fraction=0.4))
    patients = [{red // 2 for red in part} for part in _reds(grouped)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6


def test_plain_bytes_and_texts_as_labels(tmp_path: Path) -> None:
    images = {"img": [picture(red) for red in range(8)], "class": ["b", "a"] * 4}
    pq.write_table(pa.table(images), tmp_path / "photos.parquet")
    dataset = load_data(_config(tmp_path, val_fraction=0.25, test_fraction=0.25))
    assert dataset.classes == ("a", "b")
    assert sorted(red for part in _reds(dataset) for red in part) == list(range(8))


@pytest.mark.parametrize(
    ("told", "classes"),
    [
        ({"info": None}, ("0", "1")),
        ({"info": {"features": []}}, ("0", "1")),
        ({"info": {"features": {"label": "ClassLabel"}}}, ("0", "1")),
        ({"info": {"features": {"label": {"_type": "ClassLabel", "names": 2}}}}, ("0", "1")),
        ({"info": {"features": {"label": {"_type": "ClassLabel", "names": {"a": "dog"}}}}}, ("0", "1")),
        (
            {"info": {"features": {"label": {"_type": "ClassLabel", "names": {"1": "cat", "0": "dog"}}}}},
            ("dog", "cat"),
        ),
    ],
)
def test_notes_of_other_programs_give_no_names(tmp_path: Path, told: Any, classes: tuple[str, ...]) -> None:
    found = table(range(8)).replace_schema_metadata({"huggingface": json.dumps(told)})
    pq.write_table(found, tmp_path / "photos.parquet")
    assert describe(_config(tmp_path)).classes == classes


def test_all_faults_are_told_with_their_rows(folder: Path) -> None:
    pq.write_table(table(range(4), label=[0, -1, 7, None]), folder / "data" / "train-00000-of-00002.parquet")
    assert _error(folder).splitlines()[1:] == [
        "data/train-00000-of-00002.parquet, row 1: has no label",
        "data/train-00000-of-00002.parquet, row 2: label 7 is not one of the 2 classes",
        "data/train-00000-of-00002.parquet, row 3: has no label",
    ]


def test_images_that_cannot_be_read(folder: Path) -> None:
    images = [{"bytes": each, "path": None} for each in (picture(0), picture(1), b"no image", None)]
    file = folder / "data" / "train-00000-of-00002.parquet"
    pq.write_table(table(range(4), image=images), file)
    message = _error(folder)
    assert "2 of 11 files" in message
    assert "train-00000-of-00002.parquet, row 2: not an image of a format that Pillow knows" in message
    assert "train-00000-of-00002.parquet, row 3: there are no bytes, at most a path" in message
    clear_cache()
    config = _config(folder, skip_unreadable=True)
    assert _reds(load_data(config))[0] == [0, 1, 5, 6, 7]
    assert "left out: 2 rows that cannot be read as images (skip_unreadable)" in data_notes(config)
    pq.write_table(table(range(4), image=images[:1] * 3 + images[2:3]), file)
    assert "left out: 1 row that cannot be read as images (skip_unreadable)" in data_notes(config)


def test_columns_that_cannot_be_used(folder: Path) -> None:
    assert "has no column 'lable' (label_column). Did you mean 'label'?" in _error(
        folder, label_column="lable"
    )
    assert "column image (label_column) has neither texts nor whole numbers" in _error(
        folder, label_column="image"
    )
    assert "column label (image_column) has no images as bytes" in _error(folder, image_column="label")
    two = table(range(5), image2=[picture(1)] * 5)
    pq.write_table(two, folder / "data" / "test-00000-of-00001.parquet")
    message = _error(folder)
    assert "has several columns with images (image, image2); name one with --image-column" in message
    assert describe(_config(folder, image_column="image")).classes == ("dog", "cat")
    pq.write_table(table(range(5), names=["a", "b"]), folder / "data" / "test-00000-of-00001.parquet")
    assert "column label of data/train-00000-of-00002.parquet is not as in data/test" in _error(folder)


@pytest.mark.parametrize("column", ["image", "label"])
def test_two_columns_of_one_name(folder: Path, column: str) -> None:
    file = folder / "data" / "test-00000-of-00001.parquet"  # the first
    found = table((10, 11))
    pq.write_table(found.append_column(column, found[column]), file)
    assert f"has several columns {column}; rename all but one" in _error(folder)
    pq.write_table(found, file)
    later = folder / "data" / "train-00000-of-00002.parquet"
    pq.write_table(found.append_column(column, found[column]), later)
    assert f"the column {column} of data/train-00000-of-00002.parquet is not as in" in _error(folder)


def test_classes_that_cannot_be_used(tmp_path: Path) -> None:
    pq.write_table(table(range(8), names=("cat", " cat")), tmp_path / "photos.parquet")
    assert "every class needs a name of its own, but several are called cat" in _error(tmp_path)
    pq.write_table(table(range(8), None, label=["\x1b[31m"] * 8), tmp_path / "photos.parquet")
    assert r"at least 2 classes are needed, but there is only \x1b[31m" in _error(tmp_path)


def test_files_that_cannot_be_used(folder: Path, saved: Path, tmp_path: Path) -> None:
    assert "there is no folder" in _error(tmp_path / "nowhere", MissingDataError)
    assert "written by save_to_disk: read it with dataset=hf" in _error(saved, MissingDataError)
    assert "Parquet files: read them with dataset=parquet" in _error(folder, MissingDataError, dataset="hf")
    (folder / "data" / "more.parquet").write_bytes(b"PAR1")
    assert "the names of data/more.parquet do not say train, val or test" in _error(folder)
    (folder / "data" / "more.parquet").rename(folder / "data" / "test-1.parquet")
    assert "test-1.parquet cannot be read: Parquet" in _error(folder)
    (saved / "train" / "state.json").write_text("{}")
    assert "train/state.json names no files" in _error(saved, dataset="hf")
    (saved / "train" / "state.json").write_text('{"_data_files": [{"filename": "gone.arrow"}]}')
    assert "gone.arrow cannot be read" in _error(saved, MissingDataError, dataset="hf")


@pytest.mark.parametrize("splits", ["null", "{}", '"train"', '["train", null]', "[1]"])
def test_a_dict_of_splits_that_is_none(saved: Path, splits: str) -> None:
    (saved / "dataset_dict.json").write_text(f'{{"splits": {splits}}}')
    assert "dataset_dict.json names no splits; save the data set again" in _error(saved, dataset="hf")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("[]", "train/state.json names no files; save the data set again"),
        ("[1]", "train/state.json names no files"),
        (r'[{"filename": "a\u0000b"}]', r"train/a\x00b cannot be read: embedded null byte"),
    ],
)
def test_a_split_without_proper_files(saved: Path, files: str, message: str) -> None:
    (saved / "train" / "state.json").write_text(f'{{"_data_files": {files}}}')
    assert message in _error(saved, dataset="hf")
    assert message.replace("train/state", "./state") in _error(saved / "train", dataset="hf")


def test_what_is_trained_on_identifies_it(folder: Path, tmp_path: Path) -> None:
    first = identified(_config(folder))
    copy = tmp_path / "copy"
    folder.rename(copy)
    assert identified(_config(copy)).cell_hash == first.cell_hash
    pq.write_table(table((8, 11)), copy / "data" / "validation-00000-of-00001.parquet")
    assert identified(_config(copy)).cell_hash != first.cell_hash
    assert any("in several splits" in note for note in data_notes(_config(copy)))


def test_the_order_of_the_classes_identifies_it_too(folder: Path) -> None:
    """It numbers them, so that another order trains other weights."""
    first = identified(_config(folder))
    for file in (folder / "data").iterdir():
        found = pq.read_table(file)
        turned = [1 - label for label in found["label"].to_pylist()]
        metadata = table([0], names=("cat", "dog")).schema.metadata
        kept = found.set_column(1, "label", pa.array(turned)).replace_schema_metadata(metadata)
        pq.write_table(kept, file)
    assert describe(_config(folder)).classes == ("cat", "dog")
    assert identified(_config(folder)).data_digest != first.data_digest


def test_a_test_split_without_labels_is_left_out(folder: Path) -> None:
    file = folder / "data" / "test-00000-of-00001.parquet"
    pq.write_table(table((10, 11), label=[-1, -1]), file)
    assert "left out: data/test-00000-of-00001.parquet, since no row has a label" in data_notes(
        _config(folder)
    )
    assert len(load_data(_config(folder, test_fraction=0.25)).test) == 2
    pq.write_table(table((10, 11), label=[-1, 1]), file)
    assert "test-00000-of-00001.parquet, row 0: has no label" in _error(folder)


def test_classes_that_no_row_has_are_left_out(folder: Path) -> None:
    for file in (folder / "data").iterdir():
        pq.write_table(table(range(10), names=["dog", "cat", "emu"]), file)
    assert describe(_config(folder)).classes == ("dog", "cat")
    assert "left out: classes that no row has: emu" in data_notes(_config(folder))


def test_a_cache_that_cannot_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "file"))
    assert "its images cannot be copied into lab's cache" in _error(folder)


@pytest.mark.parametrize("left", [0, 100, 0.5, 0.99])
def test_a_damaged_copy_is_written_again(folder: Path, tmp_path: Path, left: float) -> None:
    whole = _reds(load_data(_config(folder)))
    for copy in (tmp_path / "cache" / "rows").glob("*.arrow"):
        content = copy.read_bytes()
        copy.write_bytes(content[: left if isinstance(left, int) else int(left * len(content))])
    clear_cache()
    rows._facts.cache_clear()  # as another process
    assert _reds(load_data(_config(folder))) == whole


def test_a_file_that_changes_while_it_is_used(saved: Path) -> None:
    name = "data-00000-of-00001.arrow"
    found = rows.images_in(saved / "train", [name], "image", [8])
    assert found.read(7) == picture(7)
    (saved / "train" / name).write_bytes((saved / "test" / name).read_bytes())
    assert found.read(1) == picture(11)
    with pytest.raises(OSError, match=r"arrow has changed: it has only 2 rows"):
        found.read(7)
    (saved / "train" / name).write_bytes(b"no table")
    with pytest.raises(OSError, match=r"00001\.arrow: "):
        found.read(1)


def test_images_are_pickled_without_their_bytes(folder: Path) -> None:
    found = rows.images_in(folder, ["data/train-00000-of-00002.parquet"], "image", [5])
    sent = pickle.dumps(found)
    assert len(sent) < 1500
    assert pickle.loads(sent).read(3) == picture(3)
