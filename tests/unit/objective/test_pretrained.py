"""Trials that start from a file of weights: they begin with it, and need it no more once they have begun."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lab.config import TrialConfig
from lab.errors import ConfigError, MissingDataError, OtherDataError
from lab.models import build_model, head_modules, with_digest
from lab.objective import Placement, TrialResult, analyse_run, train
from lab.torchvision_import import import_torchvision
from lab.tracking import MemoryTracker
from lab.training import Interrupted

import_torchvision("torchvision")  # before timm does it itself
pytest.importorskip("timm")

TINY: dict[str, Any] = {
    "architecture": "timm/test_vit",
    "dataset": "synthetic",
    "image_size": 32,
    "train_samples": 60,
    "batch_size": 20,
    "epochs": 2,
    "patience": None,
    "threads": 1,
}


@pytest.fixture
def tracker() -> MemoryTracker:
    return MemoryTracker()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return saved("timm/test_vit", tmp_path)


def saved(architecture: str, folder: Path) -> Path:
    torch.manual_seed(7)
    model = build_model(TrialConfig(architecture=architecture), (3, 32, 32), 4)
    torch.save(model.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def start(weights: Path, tracker: MemoryTracker, tmp_path: Path, **values: Any) -> TrialResult:
    config = with_digest(TrialConfig(**{**TINY, "pretrained": str(weights), **values}))
    return train(config, tracker, placement=Placement(checkpoint_dir=tmp_path / "checkpoints"))


def test_what_is_frozen_stays_as_it_was_in_the_file(
    weights: Path, tracker: MemoryTracker, tmp_path: Path
) -> None:
    result = start(weights, tracker, tmp_path, freeze="all_but_head")
    model = result.model.model
    head = tuple(f"{name}." for name in head_modules(model))
    for name, tensor in torch.load(weights, weights_only=True).items():
        if not name.startswith(head):
            assert torch.equal(model.state_dict()[name], tensor), name


def test_everything_but_the_head_learns_as_slowly_as_told(
    weights: Path, tracker: MemoryTracker, tmp_path: Path
) -> None:
    result = start(weights, tracker, tmp_path, backbone_lr_factor=1e-9, lr=0.01)
    state, stored = result.model.model.state_dict(), torch.load(weights, weights_only=True)
    torch.testing.assert_close(state["blocks.0.attn.qkv.weight"], stored["blocks.0.attn.qkv.weight"])
    assert result.history[0]["lr"] == 0.01


@pytest.mark.slow
def test_a_trial_that_was_stopped_in_an_epoch_continues_to_the_last_bit_without_the_file(
    tracker: MemoryTracker, tmp_path: Path
) -> None:
    weights = saved("timm/mobilenetv3_small_050", tmp_path)
    values = {"architecture": "timm/mobilenetv3_small_050", "freeze": 2, "backbone_lr_factor": 0.1}
    whole = start(weights, tracker, tmp_path, **values)
    config, asked = whole.config, iter([False] * 4)
    placement = Placement(checkpoint_dir=tmp_path / "other")
    started: list[str] = []
    with pytest.raises(Interrupted, match="asked to stop"):
        train(
            config,
            tracker,
            placement=placement,
            on_start=lambda run: started.append(run.run_id),
            should_stop=lambda: next(asked, True),
        )
    _check_frozen_norms(torch.load(weights, weights_only=True), whole.model.model.state_dict())
    weights.unlink()
    continued = train(config, tracker, placement=replace(placement, run_id=started[0]))
    for name, tensor in whole.model.model.state_dict().items():
        assert torch.equal(continued.model.model.state_dict()[name], tensor), name
    assert analyse_run(tracker, started[0]).accuracy == pytest.approx(continued.test.accuracy)


def _check_frozen_norms(stored: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    kept = {name for name, tensor in stored.items() if torch.equal(tensor, state[name])}
    frozen = {name for name in stored if name.startswith(("conv_stem.", "bn1.", "blocks.0."))}
    assert {"bn1.running_mean", "blocks.0.0.bn1.running_var"} <= frozen <= kept
    assert {"blocks.1.0.bn1.running_mean", "blocks.1.0.bn1.running_var"}.isdisjoint(kept)


def test_the_run_says_which_published_file_it_began_with(
    tracker: MemoryTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    saved("torchvision/squeezenet1_1", tmp_path).rename(file)
    values = {**TINY, "architecture": "torchvision/squeezenet1_1", "epochs": 1}
    result = train(TrialConfig(**values, weights="DEFAULT"), tracker)
    noted = tracker.tags(result.run_id)["lab.weights_digest"]
    assert noted == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"


def test_a_trial_without_its_file_or_with_another_does_not_begin(
    weights: Path, tracker: MemoryTracker, tmp_path: Path
) -> None:
    config = with_digest(TrialConfig(**TINY, pretrained=str(weights)))
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(OtherDataError, match=r"weights\.pth are not those of this trial"):
        train(config, tracker)
    weights.unlink()
    with pytest.raises(MissingDataError, match=r"There is no file of weights .*weights\.pth"):
        train(config, tracker)


def test_a_run_of_a_library_net_is_begun_with_by_another(
    weights: Path, tracker: MemoryTracker, tmp_path: Path
) -> None:
    source = start(weights, tracker, tmp_path)
    values = {**TINY, "init_from": source.run_id, "freeze": "all_but_head", "input_scale": "weights"}
    child = train(TrialConfig(**values, classes=("pattern0", "pattern1")), tracker)
    theirs, ours = source.model.model.state_dict(), child.model.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith("head."))
    assert ours["head.weight"].shape[0] == 2
    with pytest.raises(
        ConfigError, match=r"does not fit: its stem\.0\.weight is missing, this one's is 24×3×4×4"
    ):
        train(TrialConfig(**{**values, "architecture": "timm/test_convnext"}), tracker)
