"""Training on images decoded for every batch, against the same images in memory."""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.common import SHARED_DATA, judged, medians, show, take_turns
from lab.config import TrialConfig
from lab.data import clear_cache, load_data
from lab.data.stream import StreamSplit
from lab.training import Trainer, cores

_SCENES = "scenes8-64px.tar.gz"
_NETS: dict[str, dict[str, Any]] = {
    "conv3": {"preset": "conv3"},
    "resnet18": {"architecture": "resnet18"},
}
_TARGET = 0.9


def run(threads: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAB_CACHE_DIR"] = str(Path(folder) / "cache")
        with tarfile.open(SHARED_DATA / _SCENES) as archive:
            archive.extractall(folder, filter="data")
        for name, net in _NETS.items():
            _compare(name, net, Path(folder) / "scenes8", threads, rounds)
        clear_cache()


def _compare(name: str, net: dict[str, Any], photos: Path, threads: int, rounds: int) -> None:
    configs = {there: _config(net, photos, threads, in_memory=there) for there in (True, False)}
    variants = {_name(there): _epochs(config) for there, config in configs.items()}
    decoding = _seconds_to_decode(configs[False])
    found = medians(take_turns(variants, rounds), _name(True))
    allowed = _allowed(found[_name(True)][0], decoding, threads)
    rows = [
        [
            what,
            f"{median:,.0f}",
            f"{ratio:.2f}x",
            f"{low:.2f}–{high:.2f}",
            "" if what == _name(True) else f"{allowed:.2f}x",
            "" if what == _name(True) else judged(ratio >= min(_TARGET, allowed), f"≥ {_TARGET}x or allowed"),
        ]
        for what, (median, ratio, low, high) in found.items()
    ]
    show(
        f"Streaming: {name}, photographs of 3x64x64 as JPEG, batch 128, {threads} threads, {cores()} cores",
        ["", "images/s", "ratio", "in each round", "allowed", "target"],
        rows,
        f"{rounds} rounds of one epoch each, in turns, after one to warm up; medians. An image takes "
        f"{decoding * 1e6:,.0f} µs of a core to decode; `allowed` is the ratio if training and decoding shared all "
        "cores without a loss.",
    )


def _name(in_memory: bool) -> str:
    return "in memory" if in_memory else "streamed"


def _config(net: dict[str, Any], photos: Path, threads: int, *, in_memory: bool) -> TrialConfig:
    return TrialConfig(
        dataset="image_folder",
        data_dir=str(photos),
        image_size=64,
        data_in_memory=in_memory,
        augment=("random_crop", "horizontal_flip"),
        epochs=10_000,
        patience=None,
        threads=threads,
        device="cpu",
        **net,
    )


def _epochs(config: TrialConfig) -> Callable[[], float]:
    """Return what trains one epoch and returns its images per second, without the evaluation."""
    epochs = Trainer(config, load_data(config)).epochs()
    return lambda: next(epochs).metrics["images_per_second"]


def _seconds_to_decode(config: TrialConfig, images: int = 500) -> float:
    """Return how long one core takes to decode an image."""
    train = load_data(config).train
    assert isinstance(train, StreamSplit)
    started = time.perf_counter()
    for place in islice(train.places.tolist(), images):
        train.loaders.decoder(place)
    return (time.perf_counter() - started) / min(images, len(train))


def _allowed(speed: float, decoding: float, threads: int) -> float:
    """Return the ratio to `speed`, images per second in memory, with which all cores are busy all the time."""
    return min(1.0, cores() / (speed * (threads / speed + decoding)))
