"""The training loop: yields the results of each epoch, and can be stopped and continued bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.config import TrialConfig
from lab.data import (
    Dataset,
    balanced_order,
    batch_sizes,
    build_augmentations,
    build_mixing,
    epoch_batches,
    shuffled_order,
)
from lab.training.accumulation import count_steps, parts
from lab.training.device import keep_freed_memory, resolve_device, use_threads
from lab.training.evaluate import evaluate
from lab.training.learner import Learner
from lab.training.metrics import build_metrics
from lab.training.outcome import Interrupted, Outcome, at_chance
from lab.training.patience import Patience
from lab.training.schedulers import build_schedule
from lab.training.stored_state import check_state
from lab.training.sums import Sums
from lab.training.transfer import load_pretrained
from lab.training.under_way import UnderWay

__all__ = ["EpochResult", "Trainer"]

# How often to read the loss, in steps: each step on a CPU, where reading is free; rarely elsewhere, where it makes
# the host wait for the device.
_LOOK_EVERY = {"cpu": 1}
_LOOK_EVERY_OTHERWISE = 200

# A loss this many times that of the first step has exploded. A step too large can leave a net finite but dead: on
# MNIST with lr 1.0, the loss went from 6.6 to 4,345 within forty steps, and all predictions were the same from then on.
_EXPLODED = 10


@dataclass(frozen=True)
class EpochResult:
    """Results of an epoch: metrics by name, and whether it is the best so far by the monitored metric.

    `steps` contains metrics by iteration, counted from 1 over all epochs, if the config asks for them.
    """

    epoch: int  # 1-based
    metrics: dict[str, float]
    improved: bool
    steps: dict[int, dict[str, float]] = field(default_factory=dict)


class Trainer:
    """Trains one config on one dataset.

    `epochs()` trains and yields after each epoch. While `is_settled`, `state_dict()` is all that is needed to continue
    the trial bit for bit, in this process or another.

    Args:
        config: the trial's settings.
        dataset: on the device that the trial runs on.
        should_stop: called before every step; True raises `Interrupted`.

    Raises:
        ConfigError: the model or a metric does not fit the images, or the device does not support the settings.
        LabError: a package that the settings need is not installed.
    """

    def __init__(
        self, config: TrialConfig, dataset: Dataset, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.device = resolve_device(config)
        self.history: list[dict[str, float]] = []
        self.step_history: dict[int, dict[str, float]] = {}
        self.diverged_step: int | None = None
        self._first_loss = 0.0
        self._peak = (0, 0.0)  # step with the highest loss so far, from 1 over all epochs, and that loss
        self._should_stop = should_stop
        use_threads(config)
        keep_freed_memory()
        self.metrics = build_metrics(config, len(dataset.classes), self.device)
        # three independent random streams from one seed: weights and dropout, order, augmentation
        seeds = [int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(3)]
        torch.manual_seed(seeds[0])
        self._order = torch.Generator().manual_seed(seeds[1])
        self._augment = torch.Generator().manual_seed(seeds[2])
        self._learner = Learner(config, dataset, self.device)
        self._augmentations = build_augmentations(config)
        self._mix = build_mixing(config, len(dataset.classes))
        self._sizes = batch_sizes(len(dataset.train), config.batch_size)
        optimizer_steps = count_steps(len(self._sizes), config.accumulate)
        self._schedule = build_schedule(config, self._learner.optimizer, optimizer_steps)
        self.patience = Patience(config.mode, config.patience, config.min_delta)
        self._best_weights: dict[str, Tensor] | None = None
        self._under_way: UnderWay | None = None
        self.is_settled = True

    def epochs(self, keep: Callable[[], object] = lambda: None) -> Iterator[EpochResult]:
        """Train until all epochs are done, patience is exhausted or the loss is no longer finite.

        Args:
            keep: called every `checkpoint_every_n_steps` steps within an epoch; may call `state_dict`.

        Raises:
            Interrupted: `should_stop` returned True; nothing is lost while `is_settled`.
        """
        while not self.finished:
            epoch = self._under_way = self._under_way or self._begin()
            self._train_on(epoch, keep)
            order, sums = epoch.order, epoch.sums
            self._under_way, self.is_settled = None, False
            finite = sums.finite_steps()
            steps = self._windows(sums, finite)
            self._note_peak(sums, finite)
            if finite < sums.steps:
                self._diverge(finite)
                if finite:
                    yield self._record(sums.metrics(finite), steps)
                return
            metrics = sums.metrics(sums.steps)
            trained = epoch.elapsed  # after reading the sums, so the device has finished
            metrics |= self._mine(order, sums)
            metrics |= self._evaluate()
            metrics |= {
                "lr": epoch.lr,
                "images_per_second": sums.images / trained,
                "epoch_seconds": epoch.elapsed,
            }
            if not all(math.isfinite(value) for value in metrics.values()):
                self._diverge(sums.steps - 1)  # the step before the evaluation
                yield self._record({n: v for n, v in metrics.items() if math.isfinite(v)}, steps)
                return
            monitored = metrics.get(self.config.monitor, math.nan)  # a chosen metric may have no value
            improved = self.patience.update(self.epoch + 1, monitored)
            if improved:
                self._best_weights = {n: v.detach().clone() for n, v in self._learner.kept.items()}
            self._schedule.after_epoch(metrics)
            yield self._record(metrics, steps, improved=improved)
        if self.diverged_step is None and self._exploded() and self._learnt_nothing():
            self.diverged_step = self._peak[0]

    def optimizer_steps(self) -> Iterator[float]:
        """Do one optimizer step after another, epoch after epoch; yield the mean loss of each before its step.

        Ends with a loss that is not finite. Unlike `epochs`, it leaves the schedule alone, evaluates nothing and
        records nothing: it is for trying something out with a trainer that is thrown away.

        Raises:
            Interrupted: `should_stop` returned True.
        """
        self.is_settled = False
        while True:
            epoch, done = self._begin(), 0
            sums = epoch.sums
            for stepped in self._steps(epoch.order, sums, list(range(len(self._sizes)))):
                if not stepped:
                    continue
                sizes = torch.tensor(sums.sizes[done : sums.steps], device=self.device)
                loss = (sums.losses[done : sums.steps] * sizes).sum() / sizes.sum()
                done = sums.steps
                yield loss.item()
            if done < len(self._sizes):
                yield math.nan
                return

    def use_lr(self, lr: float) -> None:
        """Use another learning rate from the next step on, until the schedule changes it."""
        self._learner.use_lr(lr)

    def begin_with(self, weights: dict[str, Tensor], *, new_head: bool) -> None:
        """Start from trained weights instead of random ones.

        Args:
            weights: state dict of a model like this one.
            new_head: whether the last layer keeps its random weights, for other classes.

        Raises:
            ConfigError: the weights belong to another model; names the first tensor that differs.
        """
        load_pretrained(self.model, weights, new_head=new_head)

    @property
    def model(self) -> nn.Module:
        """The model that is trained; after `restore_best`, with the weights to keep."""
        return self._learner.model

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return len(self.history)

    @property
    def step(self) -> int:
        """Number of steps done in the current epoch."""
        return 0 if self._under_way is None else self._under_way.sums.steps

    @property
    def place(self) -> str:
        """What was done last, in words; empty before the first step."""
        if self.step:
            return f"after step {self.step} of epoch {self.epoch + 1}"
        return f"after epoch {self.epoch}" if self.epoch else ""

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged_step is not None or self.patience.exhausted or self.epoch >= self.config.epochs

    @property
    def outcome(self) -> Outcome:
        """How the trial ended; meaningful only once `finished`."""
        if self.diverged_step is not None:
            return Outcome.DIVERGED
        if self._learnt_nothing():
            return Outcome.NOT_CONVERGED
        return Outcome.COMPLETED if self.epoch >= self.config.epochs else Outcome.EARLY_STOPPED

    def restore_best(self) -> None:
        """Load the weights of the best epoch into `model`; if there is none, those that would have been kept."""
        self.model.load_state_dict(self._best_weights or self._learner.kept)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to continue after the last step, as tensors and plain values."""
        return {
            "cell": self.config.cell_hash,
            "epoch": self.epoch,  # with the step, it tells which of two checkpoints is newer
            "step": self.step,
            "under_way": None if self._under_way is None else self._under_way.state_dict(),
            "history": self.history,
            "step_history": self.step_history,
            "diverged_step": self.diverged_step,
            "losses": (self._first_loss, *self._peak),
            **self._learner.state_dict(),
            "best_weights": self._best_weights,
            "schedule": self._schedule.state_dict(),
            "patience": self.patience.state_dict(),
            "order": self._order.get_state(),
            "augment": self._augment.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            ValueError: the state belongs to another config, or is not a trainer's.
        """
        if state.get("cell") != self.config.cell_hash:
            raise ValueError(f"the checkpoint is of cell {state.get('cell')}, not {self.config.cell_hash}")
        check_state(
            state,
            learner=self._learner.state_dict(),
            schedule=self._schedule.state_dict(),
            between=self._is_between(state.get("step")),
        )
        saved = state["under_way"]
        under_way = saved and UnderWay.of(
            saved,
            images=len(self.dataset.train),
            steps=len(self._sizes),
            repeats=self.config.sampler == "balanced",
            device=self.device,
        )
        self.history = list(state["history"])
        self.step_history = dict(state["step_history"])
        self.diverged_step = state["diverged_step"]
        self._first_loss, *peak = state["losses"]
        self._peak = (int(peak[0]), float(peak[1]))
        self._learner.load_state_dict(state)
        best = state["best_weights"]
        self._best_weights = None if best is None else {n: v.to(self.device) for n, v in best.items()}
        self._schedule.load_state_dict(state["schedule"])
        self.patience.load_state_dict(state["patience"])
        self._order.set_state(state["order"])
        self._augment.set_state(state["augment"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        self._under_way = under_way or None

    def _is_between(self, step: Any) -> bool:
        """Whether an optimizer step lacks some of its batches after this many of an epoch."""
        return type(step) is int and step % self.config.accumulate != 0 and step < len(self._sizes)

    def _begin(self) -> UnderWay:
        return UnderWay(
            self._draw_order(),
            Sums.of(len(self._sizes), self.device),
            self._learner.lr,
        )

    def _draw_order(self) -> Tensor:
        if self.config.sampler == "balanced":
            return balanced_order(self.dataset.train.labels, self._order)
        return shuffled_order(len(self.dataset.train), self._order, self.device)

    def _train_on(self, epoch: UnderWay, keep: Callable[[], object]) -> None:
        """Train on the remaining batches of an epoch."""
        every = self.config.checkpoint_every_n_steps
        for stepped in self._steps(epoch.order, epoch.sums, list(range(len(self._sizes)))):
            if stepped:
                self._schedule.after_step()
            if every and epoch.sums.steps % every == 0 and epoch.sums.steps < len(self._sizes):
                keep()

    def _steps(self, order: Tensor, sums: Sums, batches: list[int]) -> Iterator[bool]:
        """Train on these batches of an epoch in `order` that `sums` lacks, until a loss is not finite.

        Yields after each batch whether it completed an optimizer step.

        Args:
            order: of the images, int64 [N].
            sums: of these batches; those that it has are done.
            batches: by number, all of them.
        """
        self._learner.begin()
        look_every = _LOOK_EVERY.get(self.device.type, _LOOK_EVERY_OTHERWISE)
        each = parts([self._sizes[number] for number in batches], self.config.accumulate)
        found = self._batches(order, batches[sums.steps :])
        while True:
            if self._should_stop():  # before making a batch, which draws from the augmentations' generator
                raise Interrupted
            batch = next(found, None)
            if batch is None:
                return
            images, labels = batch
            part = each[sums.steps]
            loss, logits = self._learner.learn(images, labels, part)
            sums.add(loss, logits, labels)
            if sums.steps % look_every == 0 and not math.isfinite(loss.item()):
                return
            # before the next ones are made: 70 MB less for images of 224 pixels
            del batch, images, labels, loss, logits
            yield part.last

    def _mine(self, order: Tensor, sums: Sums) -> dict[str, float]:
        """From the configured epoch on, train again on the batches with the highest loss; return its metrics.

        Batches, not images: their losses are already known, so selection is free. Like online batch selection
        (Loshchilov & Hutter 2016, arXiv:1511.06343), but after the epoch.
        """
        config = self.config
        if config.hard_mining_from is None or self.epoch + 1 < config.hard_mining_from:
            return {}
        started = time.perf_counter()
        worst = sums.worst(config.hard_mining_fraction or 0.0)
        again = Sums.of(len(worst), self.device)
        for _ in self._steps(order, again, worst):
            pass
        return {
            "mined_batches": float(len(worst)),
            "mined_loss_before": sums.losses[worst].mean().item(),
            "mined_loss": again.losses.mean().item(),
            "mined_seconds": time.perf_counter() - started,
        }

    def _windows(self, sums: Sums, finite: int) -> dict[int, dict[str, float]]:
        """Return the metrics by iteration, if the config asks for them."""
        if self.config.log_every_n_steps is None:
            return {}
        before = self.epoch * len(self._sizes)
        windows = sums.windows(self.config.log_every_n_steps, finite)
        return {before + step: metrics for step, metrics in windows.items()}

    def _batches(self, order: Tensor, only: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        return epoch_batches(
            self.dataset.train,
            batch_size=self.config.batch_size,
            mean=self.dataset.mean,
            std=self.dataset.std,
            order=order,
            only=only,
            augment=self._augmentations,
            mix=self._mix,
            augment_generator=self._augment,
        )

    def _evaluate(self) -> dict[str, float]:
        splits = {"val": self.dataset.val}
        if self.config.eval_test_every_epoch:
            splits["epoch_test"] = self.dataset.test
        metrics: dict[str, float] = {}
        for name, split in splits.items():
            if split is not None:
                evaluated = self._learner.evaluated
                result = evaluate(evaluated, split, self.dataset, self.config, metrics=self.metrics)
                metrics |= {f"{name}_loss": result.loss, f"{name}_accuracy": result.accuracy}
                metrics |= {f"{name}_{metric}": value for metric, value in result.metrics.items()}
        return metrics

    def _record(
        self, metrics: dict[str, float], steps: dict[int, dict[str, float]], *, improved: bool = False
    ) -> EpochResult:
        self.history.append(metrics)
        self.step_history.update(steps)
        self.is_settled = True
        return EpochResult(self.epoch, metrics, improved, steps)

    def _note_peak(self, sums: Sums, finite: int) -> None:
        if not finite:
            return
        if self.epoch == 0:
            self._first_loss = sums.losses[0].item()
        step, loss = sums.peak(finite)
        if loss > self._peak[1]:
            self._peak = (self.epoch * len(self._sizes) + step, loss)

    def _diverge(self, steps: int) -> None:
        """Record the step, counted from 1 over all epochs, whose loss was not finite."""
        self.diverged_step = self.epoch * len(self._sizes) + steps + 1

    def _exploded(self) -> bool:
        return self._peak[1] > _EXPLODED * self._first_loss

    def _learnt_nothing(self) -> bool:
        name, split = ("val_accuracy", self.dataset.val)
        if split is None:
            name, split = ("train_accuracy", self.dataset.train)
        best = max((metrics[name] for metrics in self.history if name in metrics), default=0.0)
        counts = torch.bincount(split.labels)
        majority = counts.max().item() / len(split)
        if split is self.dataset.train and self.config.sampler == "balanced":
            majority = 1 / int((counts > 0).sum())  # of what was drawn
        return at_chance(best, majority, len(split))
