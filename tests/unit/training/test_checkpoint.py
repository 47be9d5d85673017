"""Checkpoints: written whole or not at all, verified, and never executed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lab.errors import ResourceError
from lab.training import CorruptCheckpoint, FolderCheckpoints, load_checkpoint, save_checkpoint

STATE = {"epoch": 3, "weights": {"a": torch.arange(4.0)}, "rng": torch.get_rng_state(), "best": None}


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    save_checkpoint(STATE, tmp_path / "deep" / "last.pt")
    state = load_checkpoint(tmp_path / "deep" / "last.pt")
    assert state["epoch"] == 3
    assert torch.equal(state["weights"]["a"], STATE["weights"]["a"])


def test_replaces_in_one_step_and_leaves_nothing_beside(tmp_path: Path) -> None:
    save_checkpoint(STATE, tmp_path / "last.pt")
    save_checkpoint({**STATE, "epoch": 4}, tmp_path / "last.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 4


def test_a_failed_write_keeps_the_older(tmp_path: Path) -> None:
    save_checkpoint(STATE, tmp_path / "last.pt")
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        save_checkpoint({"bad": lambda: None}, tmp_path / "last.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 3


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "last.pt"
    save_checkpoint(STATE, file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CorruptCheckpoint, match=r"last\.pt"):
        load_checkpoint(file)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch {self.target}",))


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, form: str) -> None:
    file, trace = tmp_path / "last.pt", tmp_path / "trace"
    if form == "torch":
        torch.save({"weights": Malicious(trace)}, file)
    else:
        file.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(CorruptCheckpoint, match=r"last\.pt"):
        load_checkpoint(file, unverified=True)
    with pytest.raises(CorruptCheckpoint, match="no checksum"):
        load_checkpoint(file)
    assert not trace.exists()


def test_code_in_a_checkpoint_with_a_checksum_is_not_run_either(tmp_path: Path) -> None:
    file, trace = tmp_path / "last.pt", tmp_path / "trace"
    save_checkpoint({"weights": Malicious(trace)}, file)
    with pytest.raises(CorruptCheckpoint, match="Weights only load failed"):
        load_checkpoint(file)
    assert not trace.exists()


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "last.pt")
    with pytest.raises(CorruptCheckpoint, match="contains a Tensor, not a checkpoint"):
        load_checkpoint(tmp_path / "last.pt", unverified=True)


def test_one_changed_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    save_checkpoint(STATE, file)
    content = file.read_bytes()
    for place in range(0, len(content), 97):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CorruptCheckpoint, match="checksum"):
            load_checkpoint(file)


def test_torch_itself_reads_one(tmp_path: Path) -> None:
    save_checkpoint(STATE, tmp_path / "last.pt")
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 3


def test_weights_of_earlier_runs_have_no_checksum_and_are_read_where_that_is_allowed(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "best.pt")
    assert load_checkpoint(tmp_path / "best.pt", unverified=True)["epoch"] == 3
    save_checkpoint(STATE, tmp_path / "best.pt")
    content = bytearray((tmp_path / "best.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match="does not match"):
        load_checkpoint(tmp_path / "best.pt", unverified=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"file/run/last\.pt cannot be written: Not a directory\. Free"):
        FolderCheckpoints(tmp_path / "file" / "run").save(STATE)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from lab.errors import ResourceError
from lab.training import FolderCheckpoints
store = FolderCheckpoints(Path(sys.argv[1]))
store.save({"epoch": 1, "x": torch.zeros(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    store.save({"epoch": 2, "x": torch.zeros(100_000)})
except ResourceError as error:
    print(error)
print([state["epoch"] for state in store.load(print)])
"""


def test_a_disk_that_takes_no_more_keeps_what_was_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    output = subprocess.run(
        command, cwd=Path(__file__).parents[3], check=True, capture_output=True, text=True
    )
    assert "last.pt cannot be written: File too large. Free some space" in output.stdout
    assert output.stdout.endswith("[1]\n")
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path)
    store.save({**STATE, "epoch": 1})
    (tmp_path / "last.pt.4711.partial").write_bytes(b"half")
    assert [state["epoch"] for state in store.load(pytest.fail)] == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_killed_between_two_renames_the_one_before_is_the_newest(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path)
    store.save({**STATE, "epoch": 1})
    store.save({**STATE, "epoch": 2})
    (tmp_path / "last.pt").replace(tmp_path / "before.pt")
    assert [state["epoch"] for state in store.load(pytest.fail)] == [2]
    assert store.newest == tmp_path / "before.pt"
    store.save({**STATE, "epoch": 3})
    assert [state["epoch"] for state in store.load(pytest.fail)] == [3, 2]


def test_a_damaged_one_does_not_count_among_the_newest_two(tmp_path: Path) -> None:
    store = FolderCheckpoints(tmp_path)
    store.save({**STATE, "epoch": 1})
    store.save({**STATE, "epoch": 2})
    (tmp_path / "last.pt").write_bytes(b"")
    assert [state["epoch"] for state in store.load(lambda _: None)] == [1]
    store.save({**STATE, "epoch": 2})
    assert [state["epoch"] for state in store.load(pytest.fail)] == [2, 1]
