"""Malformed and malicious checkpoints: the trial continues from the previous one or starts over, and says so."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lab.config import TrialConfig
from lab.objective import Placement, train
from lab.tracking import MemoryTracker
from lab.training import EpochResult, Interrupted, load_checkpoint, save_checkpoint

CONFIG = TrialConfig(
    dataset="synthetic", image_size=8, width=4, depth=1, epochs=4, batch_size=256, log_every_n_steps=3, threads=1
)  # fmt: skip
State = dict[str, Any]


class Code:
    """An object that creates the file `ran` when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch {Path.cwd() / 'ran'}",))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryTracker, str, Path]:
    """A trial stopped after its second epoch: its tracking store, its run's id, and its checkpoint folder."""
    tracker, folder = MemoryTracker(), tmp_path_factory.mktemp("checkpoints")
    with pytest.raises(Interrupted, match="asked to stop"):
        run_epochs(tracker, Placement(checkpoint_dir=folder), 2)
    (run_id,) = tracker.find_runs(tracker.experiment("lab"), {"lab.kind": "trial"})
    return tracker, run_id, folder


def run_epochs(tracker: MemoryTracker, placement: Placement, epochs: int) -> list[int]:
    """Train until `epochs` epochs were reported, then stop; return them."""
    told: list[int] = []

    def note(result: EpochResult) -> None:
        told.append(result.epoch)

    train(CONFIG, tracker, placement=placement, on_epoch=note, should_stop=lambda: len(told) >= epochs)
    return told


class Trial:
    """The interrupted trial, in a folder for this test."""

    def __init__(self, folder: Path, interrupted: tuple[MemoryTracker, str, Path]) -> None:
        kept, self.run_id, checkpoints = interrupted
        self.tracker = MemoryTracker()
        self.tracker._experiments = dict(kept._experiments)
        self.tracker._runs = copy.deepcopy(kept._runs)
        self.placement = Placement(run_id=self.run_id, checkpoint_dir=folder / "checkpoints")
        shutil.copytree(checkpoints, folder / "checkpoints")
        self.last = folder / "checkpoints" / self.run_id / "last.pt"
        self.before = self.last.with_name("before.pt")

    def change(self, change: Callable[[State], object]) -> None:
        """Change the state in the last checkpoint, and give it a correct checksum."""
        state = load_checkpoint(self.last)
        change(state)
        save_checkpoint(state, self.last)

    def tag(self, name: str) -> str:
        run = self.tracker.runs(self.tracker.experiment("lab")).iloc[0]
        return str(run.get(f"tags.lab.{name}", ""))

    def go_on(self) -> list[int]:
        """Continue to the end; return the reported epochs."""
        told: list[int] = []
        result = train(
            CONFIG, self.tracker, placement=self.placement, on_epoch=lambda epoch: told.append(epoch.epoch)
        )
        assert len(result.history) == CONFIG.epochs
        assert result.best_value is not None
        assert 0 <= result.test.accuracy <= 1
        run = self.tracker.runs(self.tracker.experiment("lab")).iloc[0]
        assert (run["status"], run["run_id"]) == ("FINISHED", self.run_id)
        assert list(self.tracker.history(self.run_id, "train_loss")) == [1, 2, 3, 4]
        return told


@pytest.fixture
def trial(tmp_path: Path, interrupted: tuple[MemoryTracker, str, Path]) -> Trial:
    return Trial(tmp_path, interrupted)


def truncate(share: float) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])


def flip(share: float) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[int((len(content) - 1) * share)] ^= 0x40
        file.write_bytes(content)

    return change


def zip_that_climbs_out(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("../../../ran", b"harm")
        packed.writestr("archive/data.pkl", pickle.dumps({"epoch": 9}))


def folder_in_its_place(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "mine.txt").write_text("mine")


def link_elsewhere(file: Path) -> None:
    (file.parents[2] / "mine.txt").write_text("mine")
    file.unlink()
    file.symlink_to(file.parents[2] / "mine.txt")


# what is done to a checkpoint's file
DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated to a byte": lambda file: file.write_bytes(file.read_bytes()[:1]),
    "truncated to a tenth": truncate(0.1),
    "truncated to half": truncate(0.5),
    "truncated by a byte": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "a byte more": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "a flipped bit at the beginning": flip(0.0),
    "a flipped bit in the first tensor": flip(0.2),
    "a flipped bit in the middle": flip(0.5),
    "a flipped bit in the directory": flip(0.95),
    "a flipped bit in the checksum": flip(1.0),
    "text": lambda file: file.write_text("not a checkpoint\n" * 100),
    "NUL bytes": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "a pickle that runs code": lambda file: file.write_bytes(pickle.dumps(Code())),
    "torch's file that runs code": lambda file: torch.save({"model": Code()}, file),
    "one with a checksum that runs code": lambda file: save_checkpoint({"model": Code()}, file),
    "torch's old format that runs code": lambda file: torch.save(
        {"model": Code()}, file, _use_new_zipfile_serialization=False
    ),
    "a zip that climbs out": zip_that_climbs_out,
    "a module": lambda file: torch.save(torch.nn.Linear(2, 2), file),
    "a tensor": lambda file: torch.save(torch.ones(3), file),
    "another's, without a checksum": lambda file: torch.save({"epoch": 9}, file),
    "a folder": folder_in_its_place,
    "a link elsewhere": link_elsewhere,
    "a link to itself": lambda file: (file.unlink(), file.symlink_to(file.name)),
    "a link to a device": lambda file: (file.unlink(), file.symlink_to("/dev/null")),
    "a link to a device without end": lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
    "a link to what cannot be read": lambda file: (file.unlink(), file.symlink_to("/proc/self/mem")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_costs_an_epoch(
    tmp_path: Path, trial: Trial, damage: Callable[[Path], object]
) -> None:
    damage(trial.last)
    with pytest.raises(Interrupted, match="asked to stop"):
        run_epochs(trial.tracker, trial.placement, 2)
    assert list(trial.tracker.history(trial.run_id, "train_loss")) == [1, 2]
    assert "after epoch" in trial.tag("continued")
    assert trial.tag("restarted") == ""
    assert not (tmp_path / "ran").exists()
    for mine in tmp_path.rglob("mine.txt"):
        assert mine.read_text() == "mine"


def set_to(key: str, value: Any) -> Callable[[State], object]:
    return lambda state: state.update({key: value})


def reshape(state: State, key: str) -> None:
    name, tensor = next((name, tensor) for name, tensor in state[key].items() if tensor.ndim > 1)
    state[key][name] = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 1)


# what is done to the state within a checkpoint, whose checksum is right
STATES: dict[str, Callable[[State], object]] = {
    "of nothing": lambda state: state.clear(),
    "of another cell": set_to("cell", "0" * 12),
    **{f"without {key}": (lambda state, key=key: state.pop(key)) for key in (
        "cell", "epoch", "history", "step_history", "diverged_step", "losses", "model", "best_weights",
        "optimizer", "schedule", "patience", "order", "augment", "torch", "cuda",
    )},
    "with an epoch of text": set_to("epoch", "two"),
    "with an epoch too many": set_to("epoch", 3),
    "with a history of text": set_to("history", "ab"),
    "with a history of texts": lambda state: state["history"][0].update(train_loss="low"),
    "with a history of nothing": set_to("history", []),
    "with a history without end": set_to("history", [{}] * 1000),
    "with steps of text": set_to("step_history", {"one": {}}),
    "with a text for the step it diverged at": set_to("diverged_step", "none"),
    "with two losses": set_to("losses", (1.0, 2)),
    "with texts for losses": set_to("losses", ("a", "b", "c")),
    "with weights of other shapes": lambda state: reshape(state, "model"),
    "with weights of text": set_to("model", {"a": "b"}),
    "with one weight too many": lambda state: state["model"].update(more=torch.ones(1)),
    "with best weights of other shapes": lambda state: reshape(state, "best_weights"),
    "with best weights of text": set_to("best_weights", "best"),
    "with no best weights": set_to("best_weights", None),
    "with an optimizer of nothing": set_to("optimizer", {}),
    "with an optimizer's rate of text": lambda state: state["optimizer"]["param_groups"][0].update(lr="fast"),
    "with a schedule that replaces a method": lambda state: state["schedule"].update(step=3),
    "with a schedule's epoch of text": lambda state: state["schedule"].update(last_epoch="two"),
    "with a patience of text": lambda state: state["patience"].update(best_value="high"),
    "with a patience that has waited for ever": lambda state: state["patience"].update(waited=10**9),
    "with a random state that is short": set_to("torch", torch.zeros(3, dtype=torch.uint8)),
    "with an order of floats": set_to("order", torch.ones(5056)),
}  # fmt: skip


@pytest.mark.parametrize("change", STATES.values(), ids=STATES.keys())
def test_a_checkpoint_of_a_wrong_state_costs_an_epoch(
    trial: Trial, change: Callable[[State], object]
) -> None:
    trial.change(change)
    with pytest.raises(Interrupted, match="asked to stop"):
        run_epochs(trial.tracker, trial.placement, 2)
    assert list(trial.tracker.history(trial.run_id, "train_loss")) == [1, 2]
    assert trial.tag("continued").startswith("after epoch 1: ")
    assert trial.tag("restarted") == ""


@pytest.mark.parametrize("kind", ["damaged", "of code", "of a wrong state"])
def test_with_no_checkpoint_left_the_trial_starts_over_and_gives_a_result(
    tmp_path: Path, trial: Trial, kind: str
) -> None:
    for file in (trial.last, trial.before):
        if kind == "of a wrong state":
            save_checkpoint({**load_checkpoint(file), "history": "ab", "epoch": "two"}, file)
        else:
            DAMAGES["empty" if kind == "damaged" else "one with a checksum that runs code"](file)
    stored = trial.tracker._runs[trial.run_id].artifacts
    stored["checkpoints/last.pt"] = pickle.dumps(Code())
    assert trial.go_on() == [1, 2, 3, 4]
    assert trial.tag("restarted").startswith("from the first epoch: ")
    assert not (tmp_path / "ran").exists()


def test_with_the_one_before_the_trial_gives_a_result(trial: Trial) -> None:

    trial.last.write_bytes(b"")
    assert trial.go_on() == [1, 2, 3, 4]
