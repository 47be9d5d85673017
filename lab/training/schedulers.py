"""Learning-rate schedules: torch's own, when each is stepped, and a warm-up before any of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch.optim import Optimizer, lr_scheduler

from lab import registry
from lab.config import TrialConfig, rises
from lab.errors import ConfigError, Fault

__all__ = [
    "Schedule",
    "WarmedUp",
    "build_schedule",
    "constant",
    "cosine",
    "exponential",
    "one_cycle",
    "plateau",
    "step",
]


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
        """Step the scheduler, if it moves by steps."""
        if self.moves_by == "step":
            self.scheduler.step()

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        """Step the scheduler, if it moves by epochs or by a metric."""
        if self.moves_by == "epoch":
            self.scheduler.step()
        elif self.moves_by == "metric":
            self.scheduler.step(metrics.get(self.metric, math.nan))  # NaN is no improvement

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.scheduler.load_state_dict(state)


class WarmedUp:
    """A schedule that begins after a warm-up: the rate first rises linearly, step by step, to the schedule's start.

    Goyal et al. 2017, arXiv:1706.02677. torch's SequentialLR would do for some schedules, but it steps all that it
    contains at the same times, and cannot contain one that moves by a metric. Here the warm-up moves by steps and the
    schedule as it would without, as if training began when the warm-up ends.

    Args:
        after: the schedule; already made, because what it starts with is what the rate rises to.
        optimizer: whose rates change.
        epochs: length of the warm-up.
        steps_per_epoch: optimizer steps of an epoch.
    """

    def __init__(self, after: Schedule, optimizer: Optimizer, *, epochs: int, steps_per_epoch: int) -> None:
        steps = self._steps = epochs * steps_per_epoch
        self._after = after
        self._epochs_left = epochs
        self._rise = lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / steps))

    def after_step(self) -> None:
        """Raise the rate; after the warm-up, move the schedule on."""
        if self._rise.last_epoch < self._steps:
            self._rise.step()
        else:
            self._after.after_step()

    def after_epoch(self, metrics: Mapping[str, float]) -> None:
        """Move the schedule on, if the epoch was not one of the warm-up."""
        if self._epochs_left:
            self._epochs_left -= 1
        else:
            self._after.after_epoch(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        return {
            "after": self._after.state_dict(),
            "rise": self._rise.state_dict(),
            "epochs_left": self._epochs_left,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._after.load_state_dict(state["after"])
        self._rise.load_state_dict(state["rise"])
        self._epochs_left = state["epochs_left"]


def build_schedule(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule | WarmedUp:
    """Return the schedule of `config` for `optimizer`, after its warm-up if it has one.

    Args:
        config: names the scheduler and its settings.
        optimizer: whose rates change; each of its groups starts at its own rate.
        steps_per_epoch: optimizer steps of an epoch.

    Raises:
        ConfigError: a plug-in gives something else.
    """
    built = _built(config, optimizer, steps_per_epoch)
    epochs = config.warmup_epochs
    schedule = WarmedUp(built, optimizer, epochs=epochs, steps_per_epoch=steps_per_epoch) if epochs else built
    # torch warns if a schedule moves before this optimizer's first step, as it does in a trial that continues at the
    # end of its first epoch, and if the first step overflowed in fp16
    optimizer._opt_called = True  # type: ignore[attr-defined]
    return schedule


def _built(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    entry = registry.schedulers[config.scheduler]
    if not entry.plain:
        schedule: Schedule = entry.load()(config, optimizer, steps_per_epoch)
        return schedule
    scheduler = entry.load()(optimizer, **entry.arguments(config))
    by_metric = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
    if by_metric or not isinstance(scheduler, lr_scheduler.LRScheduler):
        message = f"'{config.scheduler}' must return an LRScheduler that moves by epochs"
        got = f"got {type(scheduler).__name__}" + (", which moves by a metric" if by_metric else "")
        raise ConfigError(Fault(f"{message}, but {got}", "scheduler"))
    return Schedule(scheduler)


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
    """Lower the rate to zero along half a cosine until the last epoch (Loshchilov & Hutter 2017)."""
    return Schedule(lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs - config.warmup_epochs))


def one_cycle(config: TrialConfig, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Raise the rate to `lr` and lower it again, step by step until the last epoch (Smith & Topin 2018)."""
    # Momentum stays as configured: cycling it as well would contradict the run's `momentum` param.
    cycle = lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=(config.epochs - config.warmup_epochs) * steps_per_epoch,
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
