"""Every kind of image yields the pixels that a person sees: transparency, depth, range, metadata."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lab.config import TrialConfig
from lab.data import Dataset, clear_cache, load_data
from lab.data.decode import decode, examine
from lab.errors import DataError, LabWarning

SIZE = 8
GREY = np.full((SIZE, SIZE), 100, np.uint8)
# left: black on transparent; right: opaque grey
CLEAR = np.zeros((SIZE, SIZE, 4), np.uint8)
CLEAR[:, SIZE // 2 :] = (100, 100, 100, 255)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(values: NDArray[Any], *extra: bytes, depth: int = 16) -> bytes:
    """Return a PNG of [H, W] or [H, W, C]."""
    channels = 1 if values.ndim == 2 else values.shape[2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in values)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    return saved(Image.fromarray(values), "TIFF", **options)


def packed_tiff() -> bytes:
    """Return a TIFF with 12 bits per pixel, all of them 1607."""
    data = bytes.fromhex("647647") * (SIZE * SIZE // 2)
    tags = [
        (256, SIZE),
        (257, SIZE),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 122),
        (277, 1),
        (278, SIZE),
        (279, len(data)),
    ]
    entries = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags
    )
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0").ljust(122, b"\0") + data


def palette() -> bytes:
    image = Image.fromarray(np.where(CLEAR[..., 3] > 0, 1, 0).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 100, 100, 100])
    return saved(image, "PNG", transparency=0)


def keyed(mode: str) -> bytes:
    """Return a PNG in which black is transparent."""
    image = Image.fromarray(CLEAR[..., :3]).convert(mode)
    return saved(image, "PNG", transparency=0 if mode == "L" else (0, 0, 0))


TRANSPARENT: dict[str, Callable[[], bytes]] = {
    "RGBA": lambda: saved(Image.fromarray(CLEAR), "PNG"),
    "LA": lambda: saved(Image.fromarray(CLEAR).convert("LA"), "PNG"),
    "palette": palette,
    "a colour of RGB": lambda: keyed("RGB"),
    "a level of L": lambda: keyed("L"),
    "WebP": lambda: saved(Image.fromarray(CLEAR), "WEBP", lossless=True, exact=True),
    "GIF": lambda: saved(Image.fromarray(CLEAR), "GIF"),
    "TIFF": lambda: saved(Image.fromarray(CLEAR), "TIFF"),
    "RGBA of 16 bits": lambda: png(CLEAR.astype(np.uint16) * 257),
    "LA of 16 bits": lambda: png(CLEAR[..., [0, 3]].astype(np.uint16) * 257),
    "a level of 16 bits": lambda: png(CLEAR[..., 0].astype(np.uint16) * 257, chunk(b"tRNS", b"\0\0")),
    "a colour of 16 bits": lambda: png(CLEAR[..., :3].astype(np.uint16) * 257, chunk(b"tRNS", b"\0" * 6)),
}


@pytest.mark.parametrize(("background", "seen"), [("white", 255), ("black", 0), ("gray", 128)])
@pytest.mark.parametrize("kind", TRANSPARENT)
def test_what_is_transparent_shows_the_background(
    kind: str, background: str, seen: int, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(TRANSPARENT[kind]())
    pixels = decode(str(tmp_path / "x"), SIZE, background=background)
    assert np.unique(pixels[:, : SIZE // 2]).tolist() == [seen]
    assert np.unique(pixels[:, SIZE // 2 :]).tolist() == [100]


def test_half_transparent_is_half_of_both(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(tmp_path / "x.png")
    assert np.unique(decode(str(tmp_path / "x.png"), 4)).tolist() == [204]


# the same picture, of two levels: a quarter of white and, where its range needs it, white
def ramp(top: float, kind: Any) -> NDArray[Any]:
    levels = np.full((SIZE, SIZE), top * 0.25)
    levels[0] = top
    return levels.astype(kind)


def colour(values: NDArray[Any]) -> NDArray[Any]:
    return np.stack([values] * 3, -1)


def big_tiff_colour(top: float) -> bytes:
    """Return a compressed TIFF of 16-bit colour, which Pillow can read but not write."""
    values = colour(ramp(top, "<u2"))
    data = zlib.compress(values.tobytes())
    tags = [
        (256, SIZE),
        (257, SIZE),
        (258, 16),
        (259, 8),
        (262, 2),
        (273, 200),
        (277, 3),
        (278, SIZE),
        (279, len(data)),
    ]
    entries = b""
    for tag, value in tags:
        entries += struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value)
    entries = entries.replace(struct.pack("<HHII", 258, 3, 1, 16), struct.pack("<HHII", 258, 3, 3, 122))
    head = (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0").ljust(122, b"\0")
    return (head + struct.pack("<HHH", 16, 16, 16)).ljust(200, b"\0") + data


KNOWN: dict[str, Callable[[], bytes]] = {
    "16 bits": lambda: png(ramp(65535, np.uint16)),
    "16 bits of colour": lambda: png(colour(ramp(65535, np.uint16))),
    "12 bits of 16, which the file says": lambda: png(ramp(4095, np.uint16), chunk(b"sBIT", b"\x0c")),
    "12 bits of 16 as the standard has them": lambda: png(ramp(65535, np.uint16), chunk(b"sBIT", b"\x0c")),
    "12 bits of 16 in a TIFF that says so": lambda: tiff(ramp(4095, np.uint16), tiffinfo={281: 4095}),
    "12 bits": packed_tiff,
    "16 bits in a portable graymap": lambda: saved(Image.fromarray(ramp(65535, np.uint16)), "PPM"),
    "a dark portable graymap": lambda: b"P5 8 8 4095\n" + (np.full((8, 8), 1024, ">u2")).tobytes(),
    "32 bits": lambda: tiff(ramp(2**31 - 1, np.int32)),
    "32 bits, of which a TIFF says 16 are used": lambda: tiff(ramp(65535, np.int32), tiffinfo={281: 65535}),
    "floats up to 1": lambda: tiff(ramp(1, np.float32)),
    "a big-endian TIFF": lambda: saved(
        Image.frombytes("I;16B", (SIZE, SIZE), ramp(65535, ">u2").tobytes()), "TIFF"
    ),
    "white is 0": lambda: tiff(65535 - ramp(65535, np.uint16), tiffinfo={262: 0}),
    "TIFF of colour": lambda: big_tiff_colour(65535),
}


def loaded(tmp_path: Path, *contents: bytes, **settings: Any) -> Dataset:
    """Return a dataset with `contents` in one class."""
    for name in ("deep", "plain"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    for number in range(4):
        (tmp_path / "photos" / "deep" / f"{number}.png").write_bytes(contents[number % len(contents)])
        Image.fromarray(GREY).save(tmp_path / "photos" / "plain" / f"{number}.png")
    clear_cache()
    values = {
        "image_size": SIZE,
        "val_fraction": 0.0,
        "test_fraction": 0.5,
        "monitor": "train_accuracy",
        **settings,
    }
    return load_data(TrialConfig(dataset="image_folder", data_dir=str(tmp_path / "photos"), **values))


def levels(dataset: Dataset, row: int = SIZE - 1) -> set[int]:
    deep = dataset.train.images[dataset.train.labels == 0]
    return set(deep[:, :, row].flatten().tolist())


@pytest.mark.parametrize("kind", KNOWN)
def test_deep_pixels_are_scaled_by_their_range(kind: str, tmp_path: Path) -> None:
    assert levels(loaded(tmp_path, KNOWN[kind]())) <= {63, 64, 100}


UNKNOWN: dict[str, tuple[Callable[[], bytes], float]] = {
    "10 bits of 16": (lambda: png(ramp(1023, np.uint16)), 1023),
    "12 bits of 16": (lambda: png(ramp(4095, np.uint16)), 4095),
    "12 bits of 16 in colour": (lambda: png(colour(ramp(4095, np.uint16))), 4095),
    "12 bits of 16 in colour, transparent": (
        lambda: png(np.dstack([colour(ramp(4095, np.uint16)), np.full((SIZE, SIZE), 65535, np.uint16)])),
        4095,
    ),
    "12 bits of 16 in a TIFF of colour": (lambda: big_tiff_colour(4095), 4095),
    "16 bits of 32": (lambda: tiff(ramp(65535, np.int32)), 65535),
    "floats up to 255": (lambda: tiff(ramp(255, np.float32)), 255),
    "floats up to 65,535": (lambda: tiff(ramp(65535, np.float32)), 65535),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_range_that_nobody_knows_is_asked_for(kind: str, tmp_path: Path) -> None:
    make, full = UNKNOWN[kind]
    with pytest.raises(DataError, match=rf"4 .* images .*deep/0.png.* full_scale: {full:.0f}$"):
        loaded(tmp_path / "a", make())
    assert (
        levels(loaded(tmp_path / "b", make(), full_scale=full)) == {63}
        if full == 65535 and "32" in kind
        else {64}
    )
    assert levels(loaded(tmp_path / "c", make(), full_scale=full)) <= {63, 64}
    with pytest.raises(DataError, match=f"full_scale=200 is too low for .* range from .* to {full:g}"):
        loaded(tmp_path / "d", make(), full_scale=200.0)


def test_one_range_holds_for_all_images_of_a_kind(tmp_path: Path) -> None:
    dark = png(np.full((SIZE, SIZE), 1000, np.uint16))
    dataset = loaded(tmp_path, png(ramp(65535, np.uint16)), dark, test_fraction=0.25)
    assert {1000 >> 8, 63} <= levels(dataset)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    values = ramp(1, np.float32)
    values[3, 3] = value
    with pytest.raises(DataError, match="some pixels are not finite numbers"):
        loaded(tmp_path, tiff(values))


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "PA", "La", "RGBa"]
)
def test_every_mode_keeps_its_level(mode: str, tmp_path: Path) -> None:
    from lab.data.decode import _rgb

    image = Image.new("LA", (4, 4), (255, 255)) if mode == "La" else Image.new("RGB", (4, 4), "white")
    if mode == "LAB":
        image = Image.new("LAB", (4, 4), (255, 128, 128))
    for step in {"PA": ("P", "PA"), "RGBa": ("RGBA", "RGBa"), "LAB": ()}.get(mode, (mode,)):
        image = image.convert(step)
    assert np.asarray(_rgb(image, b"", "white", {})).min() >= 250


def exif(*entries: tuple[int, int, bytes]) -> bytes:
    """Return big-endian Exif data made of tags, their types and values of at most four bytes."""
    body = b"".join(struct.pack(">HHI", tag, kind, 1) + value.ljust(4, b"\0") for tag, kind, value in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + b"\0\0\0\0"


UPSIDE_DOWN = (0x0112, 3, b"\0\x03")
TURNED = {
    "alone": exif(UPSIDE_DOWN),
    "beside a signed tag": exif(UPSIDE_DOWN, (0x0153, 8, b"\xff\xff")),
    "beside a signed byte": exif(UPSIDE_DOWN, (0x9999, 6, b"\xff")),
    "beside a float": exif(UPSIDE_DOWN, (0x9999, 11, struct.pack(">f", 0.5))),
    "beside a rational that lies nowhere": exif(UPSIDE_DOWN, (0x011A, 5, b"\0\xff\xff\xff")),
    "beside an unknown type": exif(UPSIDE_DOWN, (0x9999, 99, b"\0\0\0\1")),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("beside", TURNED)
def test_a_photograph_is_turned_whatever_else_its_metadata_holds(
    beside: str, form: str, tmp_path: Path
) -> None:
    image = Image.new("RGB", (SIZE, SIZE), "black")
    image.paste("white", (0, 0, SIZE, SIZE // 2))
    (tmp_path / "x").write_bytes(saved(image, form, exif=TURNED[beside], quality=95))
    pixels = decode(str(tmp_path / "x"), SIZE)
    assert pixels[:3].max() < 40
    assert pixels[-3:].min() > 215


@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_is_as_pillow_has_it(number: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5)
    (tmp_path / "x.png").write_bytes(saved(image, "PNG", exif=exif((0x0112, 3, bytes([0, number])))))
    with Image.open(tmp_path / "x.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(decode(str(tmp_path / "x.png"), 4), expected)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_deep_image_is_turned_once(form: str, number: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    tag = Image.Exif()
    tag[0x0112] = number
    pixels = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4096
    stored = Image.fromarray((pixels >> 8).astype(np.uint8))
    stored.getexif()[0x0112] = number
    expected = np.asarray(ImageOps.exif_transpose(stored))
    content = saved(Image.fromarray(pixels), form, exif=tag)
    deep, _ = examine("x", content)
    assert deep is not None
    decoded = decode("x", 4, content=content, white={deep[0]: 65535.0})
    assert np.array_equal(decoded[..., 0], expected)


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "gray": (128, 128, 128)}


def names(line: NDArray[np.uint8]) -> list[str]:
    """Return the colours along a line of pixels, [N, 3], without repetitions; mixed pixels are left out."""
    found = [name for pixel in line for name, colour in COLOURS.items() if np.abs(pixel - colour).max() < 40]
    return [name for at, name in enumerate(found) if at == 0 or found[at - 1] != name]


@pytest.mark.parametrize("lies_on_its_side", [False, True])
@pytest.mark.parametrize(
    ("resize", "row", "column"),
    [
        ("squash", ["red", "green", "blue"], ["green"]),
        ("crop", ["green"], ["green"]),
        ("pad", ["red", "green", "blue"], ["gray", "green", "gray"]),
    ],
)
def test_an_image_is_turned_before_it_becomes_a_square(
    resize: str, row: list[str], column: list[str], lies_on_its_side: bool
) -> None:
    image = Image.new("RGB", (64, 32), COLOURS["green"])
    image.paste(COLOURS["red"], (0, 0, 16, 32))
    image.paste(COLOURS["blue"], (48, 0, 64, 32))
    tag = Image.Exif()
    if lies_on_its_side:
        image = image.transpose(Image.Transpose.ROTATE_90)
        tag[0x0112] = 6
    content = saved(image, "JPEG", quality=95, subsampling=0, exif=tag)
    pixels = decode("x", 16, content=content, resize=resize, background="gray").astype(int)
    assert pixels.shape == (16, 16, 3)
    assert names(pixels[8]) == row
    assert names(pixels[:, 8]) == column


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_square_of_the_right_size_stays_as_it_is(resize: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    content = saved(Image.fromarray(values), "PNG")
    assert np.array_equal(decode("x", SIZE, content=content, resize=resize), values)


@pytest.mark.parametrize("shape", [(3, 200, 3), (200, 3, 3), (1, 1, 3)])
@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_even_a_line_becomes_a_square(resize: str, shape: tuple[int, ...]) -> None:
    content = saved(Image.fromarray(np.full(shape, 200, np.uint8)), "PNG")
    pixels = decode("x", SIZE, content=content, resize=resize, background="black")
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.max() == 200


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    content = saved(Image.fromarray(GREY), "JPEG", quality=95)
    added = b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)
    return content[:2] + added + content[2:]


GREY_PNG = (GREY,)
DAMAGED: dict[str, bytes] = {
    "Exif cut short": jpeg((0xE1, TURNED["alone"][:20])),
    "Exif of nothing": jpeg((0xE1, b"Exif\0\0" + b"\xff" * 30)),
    "a colour profile cut short": jpeg((0xE2, b"ICC_PROFILE\0\x01\x03" + b"\0" * 40)),
    "a colour profile of nothing": jpeg((0xE2, b"ICC_PROFILE\0")),
    "a long comment": jpeg(*[(0xFE, b"x" * 65_000)] * 40),
    "a table of pictures of nothing": jpeg((0xE2, b"MPF\0" + b"\xff" * 20)),
    "Photoshop's cut short": jpeg((0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\xff\xff\xff\xff")),
    "XMP of nothing": jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation='x'")),
    "JFIF cut short": jpeg((0xE0, b"JFIF\0\x01")),
    "Adobe's cut short": jpeg((0xEE, b"Adobe")),
    "text that does not unpack": png(GREY, chunk(b"zTXt", b"Raw profile type exif\0\0broken"), depth=8),
    "text that is too long": png(GREY, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 3_000_000)), depth=8),
    "international text cut short": png(GREY, chunk(b"iTXt", b"a\0\1"), depth=8),
    "a profile that does not unpack": png(GREY, chunk(b"iCCP", b"a\0\0broken"), depth=8),
    "a profile without a name": png(GREY, chunk(b"iCCP", b""), depth=8),
    "a chunk with a wrong checksum": png(GREY, chunk(b"tEXt", b"a\0b")[:-1] + b"\0", depth=8),
    "a resolution cut short": png(GREY, chunk(b"pHYs", b"\0"), depth=8),
    "a gamma cut short": png(GREY, chunk(b"gAMA", b"\0"), depth=8),
    "Exif that is none": png(GREY, chunk(b"eXIf", b"broken"), depth=8),
    "an animation of nothing": png(GREY, chunk(b"acTL", b"\0"), depth=8),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_metadata_costs_no_image(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DAMAGED[kind])
    assert np.unique(decode(str(tmp_path / "x"), SIZE)).tolist() == [100]


def test_pixels_cut_short_are_no_image(tmp_path: Path) -> None:
    noise = Image.effect_noise((64, 64), 50)
    for name, form in (
        ("a.jpg", "JPEG"),
        ("b.png", "PNG"),
        ("c.webp", "WEBP"),
        ("d.gif", "GIF"),
        ("e.tif", "TIFF"),
    ):
        content = saved(noise, form)
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=name):
            decode(str(tmp_path / name), SIZE)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_read(form: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (SIZE, SIZE), (level,) * 3) for level in (100, 200)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
    with pytest.warns(
        LabWarning, match=r"4 images have several frames \(deep/0.png …\): only the first of each is read"
    ):
        assert levels(loaded(tmp_path, content)) == {100}
