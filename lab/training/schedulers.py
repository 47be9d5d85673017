"""Learning-rate schedules: torch's own, and when each is stepped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch.optim import Optimizer, lr_scheduler

from lab import registry
from lab.config import TrialConfig, rises

__all__ = ["Schedule", "build_schedule", "constant", "cosine", "exponential", "one_cycle", "plateau", "step"]


class _Scheduler(Protocol):
    def step(self, *args: Any) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """A torch scheduler and when it is stepped: after every step, after every epoch, or by `metric`."""

    scheduler: _Scheduler
    moves_by: Literal["step", "epoch", "metric"] = "epoch"
    metric: str = ""

    def after_step(self) -> None:
        """Step the schedule after an optimizer step, if it moves by steps."""
        if self.moves_by == "step":
            self.scheduler.step()

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        """Step the schedule after an epoch with these metrics, if it moves by epochs or by a metric."""
        if self.moves_by == "epoch":
            self.scheduler.step()
        elif self.moves_by == "metric":
            self.scheduler.step(metrics.get(self.metric, math.nan))  # NaN is no improvement


def build_schedule(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Return the schedule of `config` for `optimizer`."""
    entry = registry.schedulers[config.scheduler]
    if entry.plain:
        return Schedule(entry.load()(optimizer, **entry.arguments(config)))
    schedule: Schedule = entry.load()(config, optimizer, steps_per_epoch)
    return schedule


def constant(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Keep the learning rate."""
    return Schedule(lr_scheduler.ConstantLR(optimizer, factor=1.0))


def exponential(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Multiply the rate by `gamma` after every epoch."""
    return Schedule(lr_scheduler.ExponentialLR(optimizer, gamma=config.gamma or 1.0))


def step(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Multiply the rate by `gamma` after every `step_size` epochs."""
    return Schedule(lr_scheduler.StepLR(optimizer, config.step_size or 1, gamma=config.gamma or 1.0))


def cosine(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Lower the rate to zero along half a cosine over all epochs (Loshchilov & Hutter 2017)."""
    return Schedule(lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs))


def one_cycle(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Raise the rate to `lr` and lower it again, step by step over all epochs (Smith & Topin 2018)."""
    # Momentum stays as configured: cycling it as well would contradict the run's `momentum` param.
    cycle = lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=config.epochs * steps_per_epoch,
        cycle_momentum=False,
    )
    return Schedule(cycle, "step")


def plateau(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Multiply the rate by `gamma` when `scheduler_monitor` has not improved for `scheduler_patience` epochs."""
    monitor = config.scheduler_monitor or config.monitor
    said = rises(monitor, config.metrics)
    higher = config.mode == "max" if said is None else said
    reduce = lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max" if higher else "min",
        factor=config.gamma or 0.1,
        patience=config.scheduler_patience or 0,
    )
    return Schedule(reduce, "metric", monitor)
