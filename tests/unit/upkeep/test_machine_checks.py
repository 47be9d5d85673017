"""Disk space and GPUs of machines that we do not have."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lab.upkeep import machine_checks
from lab.upkeep.clocks import clock_finding
from lab.upkeep.machine_checks import check_disks, check_gpu
from lab.upkeep.versions import check_versions

GB = 10**9


@pytest.mark.parametrize(
    ("free", "total", "verdict"),
    [
        (100 * GB, 1000 * GB, "ok"),
        (4 * GB, 50 * GB, "warning"),  # under 5 GB
        (40 * GB, 1000 * GB, "warning"),  # under 5 %
        (GB // 3, 1000 * GB, "failed"),
    ],
)
def test_room_on_a_disk(
    free: int, total: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=total, used=total - free, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    (finding,) = check_disks({"cache": tmp_path / "not" / "there"}, {"cache": "lab gc"})
    assert (finding.check, finding.verdict) == ("disk, cache", verdict)
    assert finding.found.endswith(f"free at {tmp_path}")
    assert finding.mend == ("" if verdict == "ok" else "lab gc")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places = {"journal": tmp_path / "file" / "journal", "cache": Path("/proc/lab")}
    found = list(check_disks(places, dict.fromkeys(places, "lab gc")))
    assert [finding.verdict for finding in found] == ["failed", "failed"]
    assert all("cannot be written" in finding.found and "may write to" in finding.mend for finding in found)


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine_checks, "has_driver", lambda: False)
    (finding,) = check_gpu()
    assert finding.verdict == "ok"
    assert finding.found.startswith("none; trains on ")


@pytest.mark.parametrize(("cuda", "mend"), [(None, "pip install"), ("12.8", "--gpus all")])
def test_a_driver_that_torch_does_not_use(
    cuda: str | None, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(machine_checks, "has_driver", lambda: True)
    (finding,) = check_gpu()
    assert finding.verdict == "warning"
    assert mend in finding.mend


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="NVIDIA H100", total_memory=80 * GB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)
    assert [finding.found for finding in check_gpu()] == [
        "cuda:0: NVIDIA H100, 80 GB",
        "cuda:1: NVIDIA H100, 80 GB",
    ]


def test_clocks() -> None:
    assert clock_finding(4.9, "x").verdict == "ok"
    assert "is 61 s ahead of that of the MLflow server" in clock_finding(61.2, "the MLflow server").found
    behind = clock_finding(-8.0, "the study database")
    assert "is 8 s behind that of" in behind.found
    assert (behind.verdict, behind.mend.split()[0]) == ("warning", "timedatectl")


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = check_versions()
    assert finding.verdict == "ok"
    assert f"torch {torch.__version__}" in finding.found
    monkeypatch.setattr("lab.upkeep.versions._PACKAGES", ("lab", "no-such-package"))
    (finding,) = check_versions()
    assert (finding.verdict, finding.mend) == ("failed", "pip install -c constraints.txt no-such-package")
