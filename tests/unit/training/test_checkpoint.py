"""Checkpoints: whole or not at all, and never code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from lab.training import CorruptCheckpoint, load_checkpoint, save_checkpoint

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
        load_checkpoint(file)
    assert not trace.exists()


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "last.pt")
    with pytest.raises(CorruptCheckpoint, match="holds a Tensor, not a checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
