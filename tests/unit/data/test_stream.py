"""Splits whose images are decoded for every batch: the same as those in memory, whatever happens to the processes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lab import children
from lab.config import TrialConfig
from lab.data import Dataset, MemorySplit, clear_cache, images_at, load_data, loaders, room
from lab.data.loaders import Loaders
from lab.data.stream import StreamSplit
from lab.errors import DataError

BOUNDS = [(0, 3), (3, 6), (6, 7)]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(children, "_share", Fraction(1, 10_000))  # one process: faster to start
    yield
    clear_cache()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos")


def write_folder(root: Path, each: int = 12) -> Path:
    """Write images of three classes and different sizes, with a test split."""
    rng = np.random.default_rng(1)
    for part in ("train", "test"):
        for name in ("bird", "cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(each):
                pixels = rng.integers(0, 256, (9 + number % 3, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number:02}.png")
    return root


def load(root: Path, *, in_memory: bool | None, fresh: bool = True, **values: object) -> Dataset:
    if fresh:
        clear_cache()
    settings: dict[str, object] = {
        "image_size": 8,
        "val_fraction": 0.2,
        "data_in_memory": in_memory,
        **values,
    }
    return load_data(TrialConfig(dataset="image_folder", data_dir=str(root), **settings))


class Numbered:
    """Images whose pixels are their index; the one at `broken` cannot be read."""

    identity = "numbered"
    shape = (3, 2, 4)

    def __init__(self, count: int = 7, broken: int = -1) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def __call__(self, at: int) -> NDArray[np.uint8]:
        if at == self.broken:
            raise DataError(f"{at}.png is broken")
        return np.full((2, 4, 3), at, np.uint8)


def streamed(decoder: Numbered) -> StreamSplit:
    count = len(decoder)
    return StreamSplit(Loaders(decoder), torch.arange(count), torch.arange(count) % 3)


def values(split: StreamSplit, order: torch.Tensor | None = None) -> list[list[int]]:
    return [images[:, 0, 0, 0].tolist() for images, _ in split.batches(BOUNDS, order)]


def loader_pids(split: object) -> list[int]:
    assert isinstance(split, StreamSplit)
    (loader,) = split.loaders._idle
    return [process.pid for process in loader._loader._iterator._workers]  # type: ignore[union-attr]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"classes": ("dog", "bird"), "train_samples": 6},
        {"resize": "crop", "input_scale": "unit"},
        {"resize": "pad", "val_fraction": 0.0, "monitor": "train_accuracy"},
    ],
    ids=str,
)
def test_it_is_the_dataset_in_memory(folder: Path, changes: dict[str, object]) -> None:
    stream, memory = (load(folder, in_memory=there, fresh=False, **changes) for there in (False, True))
    assert isinstance(stream.train, StreamSplit)
    assert isinstance(memory.train, MemorySplit)
    assert (stream.digest, stream.classes, stream.shape) == (memory.digest, memory.classes, memory.shape)
    assert torch.equal(stream.mean, memory.mean)
    assert torch.equal(stream.std, memory.std)
    for name in ("train", "val", "test"):
        ours, theirs = getattr(stream, name), getattr(memory, name)
        if ours is None or theirs is None:
            assert ours is theirs
            continue
        order = torch.randperm(len(ours))
        for one, other in zip(
            ours.batches(BOUNDS, order[:7]), theirs.batches(BOUNDS, order[:7]), strict=True
        ):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])
            assert one[0].stride() == other[0].stride()
        assert torch.equal(images_at(ours, [4, 1, 1]), images_at(theirs, [4, 1, 1]))
        assert torch.equal(ours.take(order[:5]).labels, theirs.take(order[:5]).labels)


def test_batches_come_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "share_of_cores", lambda: 2)
    split = streamed(Numbered())
    assert values(split) == [[0, 1, 2], [3, 4, 5], [6]]
    order = torch.tensor([6, 5, 4, 3, 2, 2, 0])
    assert values(split, order) == [[6, 5, 4], [3, 2, 2], [0]]
    assert [labels.tolist() for _, labels in split.batches(BOUNDS, order)] == [[0, 2, 1], [0, 2, 2], [0]]
    assert values(split.take(torch.tensor([6, 0, 3, 3, 3, 3, 1]))) == [[6, 0, 3], [3, 3, 3], [1]]
    assert list(split.batches([])) == []


def test_an_epoch_that_is_left_in_the_middle_does_not_disturb_the_next() -> None:
    split = streamed(Numbered())
    whole = values(split)
    left = split.batches(BOUNDS)
    next(left)
    assert values(split) == whole  # beside the open one: with processes of its own
    left.close()
    assert values(split) == whole


def test_no_random_number_is_drawn() -> None:
    state = torch.get_rng_state()
    values(streamed(Numbered()))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_that_cannot_be_read_is_named_and_the_others_can_still_be_used() -> None:
    split = streamed(Numbered(broken=4))
    batches = split.batches(BOUNDS)
    assert next(batches)[0][:, 0, 0, 0].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"^4\.png is broken$"):
        next(batches)
    assert images_at(split, [6, 0])[:, 0, 0, 0].tolist() == [6, 0]


def test_a_damaged_file_is_told_of_as_it_is_in_memory(folder: Path) -> None:
    content = (folder / "train/cat/03.png").read_bytes()
    (folder / "train/cat/03.png").write_bytes(content[:-40])
    texts = []
    for in_memory in (True, False):
        with pytest.raises(DataError, match=r"1 of 72 files in .*\n  train/cat/03\.png: ") as raised:
            load(folder, in_memory=in_memory)
        texts.append(str(raised.value))
    assert texts[0] == texts[1]
    skipped = [load(folder, in_memory=there, skip_unreadable=True) for there in (False, True)]
    assert skipped[0].digest == skipped[1].digest
    assert len(skipped[0].train) + len(skipped[0].val or ()) == 35
    assert "left out: 1 damaged image (skip_unreadable)" in skipped[0].notes


def test_what_only_a_function_of_this_test_can_decode_is_an_error() -> None:
    decoder = Numbered()
    decoder.lock = (_ for _ in ())  # type: ignore[attr-defined]
    with pytest.raises(
        DataError, match=r"Numbered cannot be sent to the processes that decode images: .*data_in_memory"
    ):
        values(streamed(decoder))


def test_a_killed_process_is_replaced() -> None:
    split = streamed(Numbered())
    whole = values(split)
    for pid in loader_pids(split):
        os.kill(pid, signal.SIGKILL)
    assert values(split) == whole


@pytest.mark.slow
def test_the_processes_end_with_the_dataset(folder: Path) -> None:
    dataset = load(folder, in_memory=False)
    pids = loader_pids(dataset.train)
    assert all(map(psutil.pid_exists, pids))
    del dataset
    clear_cache()
    gc.collect()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))


_SCRIPT = """
import sys
from lab.config import TrialConfig
from lab.data import load_data
config = TrialConfig(dataset="image_folder", data_dir=sys.argv[1], image_size=8, data_in_memory=False)
dataset = load_data(config)
(loader,) = dataset.train.loaders._idle
print(*[process.pid for process in loader._loader._iterator._workers], flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end", "kill"])
def test_the_processes_end_with_the_program_which_needs_no_main_guard(folder: Path, how: str) -> None:
    (folder.parent / "script.py").write_text(_SCRIPT)
    program = subprocess.Popen(
        [sys.executable, str(folder.parent / "script.py"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(children.__file__).parents[1])},
    )
    assert program.stdout is not None
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert pids
    if how == "kill":
        program.kill()
    _, errors = program.communicate("")
    assert "Traceback" not in errors
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))


def test_images_are_looked_at_once(folder: Path) -> None:
    first = load(folder, in_memory=False)
    again = load(folder, in_memory=False)
    assert again.digest == first.digest
    assert torch.equal(again.mean, first.mean)
    assert isinstance(again.train, StreamSplit)
    assert not again.train.loaders._idle, "it was decoded"
    (folder / "train/cat/03.png").write_bytes((folder / "train/dog/03.png").read_bytes())
    assert load(folder, in_memory=False).digest != first.digest


@pytest.mark.parametrize(
    ("free", "share", "streams"), [(60_000, 1, False), (60_000, 2, True), (50_000, 1, True)]
)
def test_what_takes_more_than_a_quarter_of_the_free_memory_streams(
    folder: Path, free: int, share: int, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_free_memory", lambda: free)
    monkeypatch.setattr(
        children, "_share", Fraction(1, share)
    )  # a quarter of it: 72 images of 192 bytes are 13,824
    dataset = load(folder, in_memory=None)
    assert isinstance(dataset.train, StreamSplit) == streams
    told = "every batch, because all of them (0.0 MB) take more than a quarter of the free memory (0.0 MB)"
    assert any(told in note for note in dataset.notes) == streams


def test_what_is_asked_for_counts_more_than_the_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_free_memory", lambda: 0)
    assert isinstance(load(folder, in_memory=True).train, MemorySplit)
    dataset = load(folder, in_memory=False)
    assert "images: decoded for every batch (data_in_memory: false)" in dataset.notes


def test_where_images_are_does_not_make_another_cell() -> None:
    base = TrialConfig(dataset="image_folder", data_dir="x")
    assert TrialConfig(dataset="image_folder", data_dir="x", data_in_memory=False).cell_hash == base.cell_hash
    assert TrialConfig(dataset="image_folder", data_dir="x", resize="pad").cell_hash != base.cell_hash
    assert TrialConfig(dataset="digits", data_in_memory=False, resize="pad") == TrialConfig(dataset="digits")


def test_a_share_of_the_machine_has_at_least_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    assert children.share_of_cores() == 1
    monkeypatch.setattr(children, "_share", Fraction(1, 2))
    monkeypatch.setattr("joblib.cpu_count", lambda: 7)
    assert children.share_of_cores() == 3


def test_the_memory_of_this_machine_is_known() -> None:
    assert 0 < room._free_memory() <= psutil.virtual_memory().total
