from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch

from lab.config import TrialConfig
from lab.data import clear_cache, load_data, make_split
from lab.data.torchvision import SVHN
from lab.errors import DataError
from lab.torchvision_import import import_torchvision

_TRAIN, _TEST = 60, 20


def _write_idx(file: Path, array: np.ndarray) -> None:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    file.write_bytes(header + array.astype(np.uint8).tobytes())


def _write_mnist(root: Path, folder: str = "MNIST", side: int = 28) -> Path:
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", _TRAIN), ("t10k", _TEST)):
        _write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, side, side)))
        _write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return raw


def _config(dataset: str, root: Path) -> TrialConfig:
    return TrialConfig(dataset=dataset, data_dir=str(root), val_fraction=0.2)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_are_read(name: str, folder: str, tmp_path: Path) -> None:
    raw = _write_mnist(tmp_path, folder)
    dataset = load_data(_config(name, tmp_path))
    assert dataset.val is not None
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [48, 12, 20]
    pixels = np.fromfile(raw / "t10k-images-idx3-ubyte", np.uint8)[16:].reshape(_TEST, 1, 28, 28)
    assert np.array_equal(dataset.test.images.numpy(), pixels)
    assert dataset.test.labels.tolist() == [number % 10 for number in range(_TEST)]
    assert dataset.source == str(raw)


def test_a_missing_dataset_says_where_it_looked_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte") as caught:
        load_data(_config("mnist", tmp_path))
    message = str(caught.value)
    assert str(tmp_path / "MNIST" / "raw") in message
    assert "train-images-idx3-ubyte" in message
    assert f"lab train --dataset mnist --data-dir {tmp_path} --download" in message
    monkeypatch.setenv("LAB_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"lab train --dataset cifar10 --download; .*LAB_DATA_DIR"):
        load_data(TrialConfig(dataset="cifar10"))


def test_only_the_missing_file_is_named(tmp_path: Path) -> None:
    (_write_mnist(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"raw does not contain t10k-labels-idx1-ubyte\. Download"):
        load_data(_config("mnist", tmp_path))


@pytest.mark.parametrize("kept", [0, 3, 10, 16, 1_000])
@pytest.mark.parametrize("download", [False, True])
def test_a_truncated_idx_file_is_named(kept: int, download: bool, tmp_path: Path) -> None:
    file = _write_mnist(tmp_path) / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"{file} is corrupt: .* Delete it and download it again"):
        load_data(_config("mnist", tmp_path), download=download)


def test_another_format_under_an_idx_name_is_named(tmp_path: Path) -> None:
    file = _write_mnist(tmp_path) / "t10k-labels-idx1-ubyte"
    file.write_bytes(b"\x1f\x8b\x08\x00" + bytes(100))
    with pytest.raises(
        DataError, match=rf"{file} is corrupt: it must begin with 00 00 08 01 .* with 1f 8b 08 00"
    ):
        load_data(_config("mnist", tmp_path))


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    _write_mnist(tmp_path, side=14)
    with pytest.raises(DataError, match=r"mnist: images must be \[1, 28, 28\], but are \[1, 14, 14\]"):
        load_data(_config("mnist", tmp_path))


def test_labels_that_do_not_match_the_images_are_refused(tmp_path: Path) -> None:
    _write_idx(_write_mnist(tmp_path) / "train-labels-idx1-ubyte", np.arange(30) % 10)
    with pytest.raises(DataError, match="mnist: 60 images do not match 30 labels"):
        load_data(_config("mnist", tmp_path))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a local web server from which torchvision's own code downloads Fashion-MNIST."""
    raw = _write_mnist(tmp_path / "mirror")
    for file in list(raw.iterdir()):
        (raw / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    dataset = import_torchvision("torchvision.datasets").FashionMNIST
    sums = [(name, hashlib.md5((raw / name).read_bytes()).hexdigest()) for name, _ in dataset.resources]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(raw))) as server:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(dataset, "resources", sums)
        monkeypatch.setattr(dataset, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield raw
        server.shutdown()
        thread.join()


def test_a_dataset_is_downloaded_only_if_asked_for(mirror: Path, tmp_path: Path) -> None:
    config = _config("fashion_mnist", tmp_path / "new")
    with pytest.raises(DataError, match="fashion_mnist is missing"):
        load_data(config)
    assert not (tmp_path / "new").exists()
    assert len(load_data(config, download=True).test) == _TEST
    clear_cache()
    assert len(load_data(config).test) == _TEST


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_failed_download_is_explained(change: str, mirror: Path, tmp_path: Path) -> None:
    file = mirror / "train-images-idx3-ubyte.gz"
    file.unlink() if change == "gone" else file.write_bytes(b"not what it should be")
    with pytest.raises(DataError, match=rf"fashion_mnist could not be downloaded into {tmp_path}/new: "):
        load_data(_config("fashion_mnist", tmp_path / "new"), download=True)


@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        (
            "cifar10",
            "cifar-10-batches-py",
            [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"],
        ),
        ("cifar100", "cifar-100-python", ["train", "test", "meta"]),
        ("svhn", "", ["train_32x32.mat", "test_32x32.mat"]),
    ],
)
def test_a_file_without_the_published_checksum_is_refused_and_named(
    name: str, folder: str, files: list[str], tmp_path: Path
) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for file in files:
        (tmp_path / folder / file).write_bytes(b"not what it should be")
    with pytest.raises(DataError, match=rf"{tmp_path / folder / files[0]} is corrupt: its checksum"):
        load_data(_config(name, tmp_path))


def test_svhn_arrays_from_a_mat_file_become_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)  # as SVHN is published
    scipy.io.savemat(tmp_path / "x.mat", {"X": pixels, "y": np.arange(5)[:, None]})
    read = scipy.io.loadmat(tmp_path / "x.mat")
    opened = SimpleNamespace(data=read["X"].transpose(3, 2, 0, 1), labels=read["y"].squeeze())
    split = make_split(*SVHN.arrays(opened), 10, "svhn")
    assert split.images.shape == (5, 3, 32, 32)
    assert split.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(split.images, torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()))


def test_an_absent_torchvision_is_explained() -> None:
    with pytest.raises(DataError, match=r"torchvision cannot be imported with torch .*constraints.txt"):
        import_torchvision("torchvision.no_such_module")
