from __future__ import annotations

from pathlib import Path

import pytest

from lab.files import replacing


def test_a_file_is_replaced_at_the_end_only(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("before")
    with replacing(file) as part:
        part.write_text("after")
        assert file.read_text() == "before"
        assert part.suffix == ".csv"
    assert file.read_text() == "after"
    assert list(tmp_path.iterdir()) == [file]


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("before")

    def write_half() -> None:
        with replacing(file) as part:
            part.write_text("half")
            raise ValueError("no space")

    with pytest.raises(ValueError, match="no space"):
        write_half()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    file, link = tmp_path / "table.csv", tmp_path / "link"
    file.write_text("before")
    link.symlink_to(file)
    with replacing(link) as part:
        part.write_text("after")
    assert link.is_symlink()
    assert file.read_text() == "after"


def test_what_is_no_regular_file_is_written_directly() -> None:
    with replacing(Path("/dev/null")) as part:
        part.write_text("gone")
    assert Path("/dev/null").is_char_device()
