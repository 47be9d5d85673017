"""Digests of files: each is read once, and again only after a change."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from lab.data.contents import content_digests

FILES = ("a", "b/c", "d")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files old enough for their times to be trusted."""
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("lab.data.contents._FRESH", 0)
    (tmp_path / "files" / "b").mkdir(parents=True)
    for name in FILES:
        (tmp_path / "files" / name).write_text(name)
    time.sleep(0.02)  # longer than a tick of the file system's clock
    return tmp_path / "files"


def digests(root: Path) -> list[str]:
    return [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in FILES]


def test_a_file_that_did_not_change_is_not_read_again(root: Path) -> None:
    before = digests(root)
    assert content_digests(root, FILES) == before
    (kept,) = (root.parent / "cache" / "contents").iterdir()
    text = kept.read_bytes()[64:].replace(before[0].encode(), b"0" * 64)
    kept.write_bytes(hashlib.sha256(text).hexdigest().encode() + text)  # as if it had been written like this
    assert content_digests(root, FILES) == ["0" * 64, *before[1:]]


def test_a_change_is_seen_even_with_the_same_size_and_time(root: Path) -> None:
    content_digests(root, FILES)
    stat = (root / "a").stat()
    (root / "a").write_text("A")
    os.utime(root / "a", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert content_digests(root, FILES) == digests(root)


def test_a_file_written_just_now_is_not_trusted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.data.contents._FRESH", 60 * 10**9)
    content_digests(root, FILES)
    (kept,) = (root.parent / "cache" / "contents").iterdir() if (root.parent / "cache").exists() else (None,)
    assert kept is None or kept.read_bytes()[64:] == b"{}"


@pytest.mark.parametrize("damage", [b"", b"{}", b"0" * 64 + b'{"a": [1, 2, 3, 4, "x"]}', b"\xff" * 100])
def test_damaged_notes_are_made_again(root: Path, damage: bytes) -> None:
    content_digests(root, FILES)
    (kept,) = (root.parent / "cache" / "contents").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage)
    assert content_digests(root, FILES) == digests(root)
    assert kept.read_bytes() == whole


def test_notes_that_cannot_be_kept_cost_only_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CACHE_DIR", "/dev/null/nowhere")
    assert content_digests(root, FILES) == digests(root)
