"""The trained model of a run, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lab.config import TrialConfig
from lab.data import INTAKE, Intake, normalise
from lab.errors import TrackingError
from lab.models import build_model
from lab.restore import Saved, restore, stored_intake
from lab.tracking import Tracker
from lab.training import autocast, evaluation_batch, load_pretrained, resolve_device

__all__ = ["TrainedModel", "load_trained", "restored_net"]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A net with its best weights, and how pictures become its input.

    `net` takes normalised images [B, C, H, W] and returns logits [B, classes]; it is in evaluation mode.
    """

    run_id: str
    config: TrialConfig
    intake: Intake
    net: nn.Module
    device: torch.device

    @property
    def batch_size(self) -> int:
        """How many images are evaluated at once, as after training."""
        return evaluation_batch(self.device)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class, float32 [B, classes] on the CPU, as evaluation after training finds it.

        Args:
            images: pixels, uint8 [B, C, H, W].
        """
        mean, std = self.intake.scale(self.device)
        with torch.inference_mode(), autocast(self.config, self.device):
            logits = self.net(normalise(images.to(self.device), mean, std))
        found: Tensor = logits.float().softmax(1).cpu()
        return found


def load_trained(tracker: Tracker, run_id: str, device: str | None = None) -> TrainedModel:
    """Return the trained model of a run. Nothing that the run has stored is executed.

    Args:
        tracker: where the run is.
        run_id: its whole id.
        device: where the model is to run; None for that of the run's config.

    Raises:
        TrackingError: there is no such run, or it kept no model or not how pictures become its input.
        ConfigError: the device cannot be used, a plug-in of the net is not loaded, or the weights do not fit the net.
    """
    on = {} if device is None else {"device": device}
    saved = restore(tracker, run_id, {**on, "compile": False})  # one pass is faster without
    intake = stored_intake(tracker, run_id)
    if intake is None:
        raise TrackingError(
            f"Run {run_id} has no {INTAKE}, which says how pictures become its model's input: the version of lab that"
            f" trained it did not keep that. Where its data is, `lab errors {run_id}` adds it"
        )
    place = resolve_device(saved.config)
    net = restored_net(saved, intake.shape, len(intake.classes), place).eval()
    return TrainedModel(run_id, saved.config, intake, net, place)


def restored_net(saved: Saved, shape: tuple[int, int, int], classes: int, device: torch.device) -> nn.Module:
    """Return the net of a run with its best weights, on `device` and channels last.

    Args:
        saved: from `lab.restore.restore`.
        shape: of an image, [C, H, W].
        classes: number of classes.
        device: where it goes.

    Raises:
        ConfigError: the weights are those of another net.
    """
    net = build_model(saved.config, shape, classes).to(device)
    load_pretrained(net, saved.weights, new_head=False)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
