from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lab.engines.slurm.event_files import EventReader, EventWriter


@pytest.fixture
def reader(tmp_path: Path) -> EventReader:
    reader = EventReader(tmp_path / "worker.jsonl")
    reader.create()
    return reader


def test_lines_are_read_once_and_in_order(reader: EventReader) -> None:
    writer = EventWriter(reader.file)
    writer.write({"epoch": 1, "loss": float("inf")})
    writer.write({"epoch": 2})
    assert list(reader.read()) == [{"epoch": 1, "loss": float("inf")}, {"epoch": 2}]
    assert list(reader.read()) == []
    writer.write({"epoch": 3})
    assert list(reader.read()) == [{"epoch": 3}]


def test_only_its_owner_reads_it(reader: EventReader) -> None:
    assert stat.S_IMODE(reader.file.stat().st_mode) == 0o600


def test_half_a_line_waits_for_the_other_half(reader: EventReader) -> None:
    with reader.file.open("a") as file:
        file.write('[1, {"epoch": 1}]\n[2, {"ep')
    assert list(reader.read()) == [{"epoch": 1}]
    with reader.file.open("a") as file:
        file.write('och": 2}]\n')
    assert list(reader.read()) == [{"epoch": 2}]


def test_a_file_that_is_away_says_nothing(tmp_path: Path) -> None:
    assert list(EventReader(tmp_path / "none.jsonl").read()) == []


def test_what_a_full_disk_has_cut_short_is_written_again_and_read_once(reader: EventReader) -> None:
    writer = EventWriter(reader.file)
    writer.write({"epoch": 1})
    folder, away = reader.file.parent, reader.file.with_name("away")
    reader.file.rename(away)
    reader.file.mkdir()  # cannot be opened
    writer.write({"epoch": 2})
    writer.write({"epoch": 3})
    assert not writer.close(0.0)
    reader.file.rmdir()
    with away.open("a") as file:  # what the disk still took
        file.write('[2, {"epoch": 2}]\n[3, {"epo')
    away.rename(reader.file)
    assert writer.close(0.0)
    writer.write({"epoch": 4})
    assert [line["epoch"] for line in reader.read()] == [1, 2, 3, 4]
    assert [file.name for file in folder.iterdir()] == ["worker.jsonl"]
