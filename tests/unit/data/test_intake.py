"""Pictures become what a model was trained on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lab.config import TrialConfig
from lab.data import Intake, load_data
from lab.data.levels import Kind
from lab.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (30, 50, 3), np.uint8)


def intake(shape: tuple[int, int, int] = (3, 16, 16), **values: Any) -> Intake:
    channels = shape[0]
    return Intake(("a", "b"), shape, (0.1,) * channels, (1 / 3,) * channels, **values)


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def test_it_is_read_back_without_a_loss() -> None:
    mean, std = torch.rand(3), torch.rand(3)
    kinds = {Kind("16-bit", 65535.0, 4095.0, 12, True): 4095.0, Kind("floating-point", 1.0): 1.0}
    before = Intake(
        ("naïve", "b\udcff", "c"), (3, 8, 8), tuple(mean.tolist()), tuple(std.tolist()), "pad", "black", kinds
    )
    text = before.to_json()
    after = Intake.from_json(text.encode().decode())  # as a file
    assert after == before
    assert [
        torch.equal(one, other)
        for one, other in zip(after.scale(torch.device("cpu")), (mean, std), strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "cannot be read .KeyError: 'format'"),
        ('{"format": 1}', "cannot be read"),
        ("[]", "cannot be read"),
        (json.dumps({"format": 2, "later": True}), "was written by a later version of lab"),
    ],
)
def test_one_that_cannot_be_read_is_an_error(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Intake.from_json(text)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_files_become_what_training_read(tmp_path: Path, resize: str) -> None:
    for split, name in (("train", "x"), ("train", "y"), ("test", "x"), ("test", "y")):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        for number, form in enumerate(("png", "jpg", "webp")):
            pixels = RNG.integers(0, 256, (40 + number, 60, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.{form}")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "test/x/turned.jpg", exif=turned)
    deep = RNG.integers(0, 4096, (20, 20), np.uint16)
    Image.fromarray(deep).save(tmp_path / "test/y/deep.png")
    clear = np.dstack([COLOUR, RNG.integers(0, 256, COLOUR.shape[:2], np.uint8)])
    Image.fromarray(clear).save(tmp_path / "test/y/clear.png")

    config = TrialConfig(
        dataset="image_folder",
        data_dir=str(tmp_path),
        image_size=16,
        resize=resize,
        background="gray",
        full_scale=4095,
        val_fraction=0.34,
    )
    dataset = load_data(config)
    found = Intake.from_json(Intake.of(config, dataset).to_json())
    assert list(found.white.values()) == [4095.0]
    files = sorted((tmp_path / "test").rglob("*.*"))
    read = np.stack([found.read(file.name, file.read_bytes()) for file in files])
    images, _ = next(dataset.test.batches([(0, len(files))]))
    np.testing.assert_array_equal(read, images.permute(0, 2, 3, 1).numpy())


TWELVE = np.linspace(0, 4095, 256).reshape(16, 16)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_picture_of_a_kind_that_was_not_there_in_training_has_its_full_scale(dtype: Any) -> None:
    form = "PNG" if dtype == np.uint16 else "TIFF"
    of_training = intake(full_scale=4095.0)
    after = Intake.from_json(of_training.to_json())
    read = after.read("x", file_of(Image.fromarray(TWELVE.astype(dtype)), form))
    np.testing.assert_allclose(read[..., 0], np.arange(256).reshape(16, 16), atol=1)


@pytest.mark.parametrize("full_scale", [None, 1000.0])
def test_nobody_guesses_which_value_is_white(full_scale: float | None) -> None:
    content = file_of(Image.fromarray(TWELVE.astype(np.uint16)))
    with pytest.raises(DataError, match=r"x.png: cannot tell which value is white: .* 0 to 4095.* 8 bits"):
        intake(full_scale=full_scale).read("x.png", content)
    whole = file_of(Image.fromarray((16 * TWELVE).astype(np.uint16)))
    assert intake().read("x.png", whole).max() == 255


def test_one_without_a_full_scale_is_readable_by_earlier_versions() -> None:
    assert "full_scale" not in intake().to_json()


def test_a_grey_model_gets_one_channel() -> None:
    pixels = RNG.integers(0, 256, (16, 16), np.uint8)
    read = intake((1, 16, 16)).read("x", file_of(Image.fromarray(pixels)))
    np.testing.assert_array_equal(read, pixels[..., None])
    assert intake((1, 16, 16)).read("x", file_of(Image.fromarray(COLOUR))).shape == (16, 16, 1)


def test_a_model_of_images_that_are_no_squares() -> None:
    wide = intake((3, 8, 20))
    assert wide.read("x", file_of(Image.fromarray(COLOUR))).shape == (8, 20, 3)
    exact = RNG.integers(0, 256, (8, 20, 3), np.uint8)
    np.testing.assert_array_equal(wide.read("x", file_of(Image.fromarray(exact))), exact)


def test_a_huge_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    huge = Image.fromarray(COLOUR).resize((5000, 3000))
    read, small = (
        intake().read("x", file_of(image, "JPEG", quality=95)).astype(int)
        for image in (huge, Image.fromarray(COLOUR))
    )
    assert np.abs(read - small).mean() < 16


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", b"no picture", "a.jpg: not an image of a format that Pillow knows"),
        ("a.jpg", b"", "a.jpg: the file is empty"),
        ("a.heic", b"no picture", "pip install pillow-heif"),
        (
            "a.eps",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            "Pillow cannot read EPS",
        ),
        ("a.nef", file_of(Image.fromarray(COLOUR), "TIFF"), "a raw photograph"),
        ("a.jpg", file_of(Image.fromarray(COLOUR), "JPEG")[:300], "a.jpg: "),
    ],
)
def test_what_is_no_picture_is_an_error(name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        intake().read(name, content)


def test_a_decompression_bomb_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with (
        pytest.raises(DataError, match="50x30 pixels exceed the limit of 1000"),
        pytest.warns(Image.DecompressionBombWarning),
    ):
        intake().read("x", file_of(Image.fromarray(COLOUR)))


@pytest.mark.parametrize(("channels", "takes"), [(1, True), (2, False), (3, True), (4, False)])
def test_files_have_one_or_three_channels(channels: int, takes: bool) -> None:
    assert intake((channels, 8, 8)).takes_pictures is takes
