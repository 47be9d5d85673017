"""A learning-rate range test in a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab import pictures
from lab.config import TrialConfig
from lab.data import load_data, settled
from lab.errors import OutOfMemoryError
from lab.objective.beginning import begin_with_weights
from lab.objective.ending import end_early
from lab.objective.logged import log_description
from lab.objective.out_of_memory import explain_out_of_memory
from lab.tracking import Run, RunStatus, Tracker
from lab.tracking.provenance import provenance
from lab.tracking.tags import Tag
from lab.training import Interrupted, LrCurve, RatePoint, Trainer, range_test, resolve_device

__all__ = ["LrRange", "find_lr"]


@dataclass(frozen=True)
class LrRange:
    """Where a range test goes: from the rate `lowest` to `highest` in so many optimizer `steps`."""

    lowest: float = 1e-6
    highest: float = 10.0
    steps: int = 200

    def as_params(self) -> dict[str, str]:
        """Return it as params of the run."""
        return {"lr_from": f"{self.lowest:g}", "lr_to": f"{self.highest:g}", "lr_steps": str(self.steps)}


def find_lr(
    config: TrialConfig,
    tracker: Tracker,
    sweep: LrRange,
    *,
    experiment: str = "lab",
    name: str = "",
    download: bool = False,
    on_start: Callable[[Run], None] = lambda run: None,
    on_step: Callable[[RatePoint], None] = lambda point: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> LrCurve:
    """Do a learning-rate range test of `config` and log its curve: see `lab.training.range_test`.

    The run has `lr`, `loss` and `smoothed_loss` by step, `suggested_lr`, and the figure `lr_range.png`. If the test is
    stopped, it has those of the steps done, and is KILLED.

    Args:
        config: to test; all but its `lr`, scheduler and number of epochs counts.
        tracker: from `lab.connect`.
        sweep: the rates.
        experiment: name of the run's experiment.
        name: of the run; the store makes one up if empty.
        download: whether missing data and weights may be downloaded.
        on_start: called with the open run.
        on_step: called after every optimizer step.
        should_stop: asked at every batch.

    Raises:
        LabError: the settings do not fit the data, memory ran out, or the store fails. The run is FAILED.
        KeyboardInterrupt: the test was ended at once. The run is KILLED.
    """
    config = settled(config)
    tags = {**provenance(), Tag.KIND: "lr_range"}
    run = tracker.open_run(name=name, experiment=tracker.experiment(experiment), tags=tags)
    with _ended_if_it_fails(run, config):
        on_start(run)
        dataset = load_data(config, device=resolve_device(config), download=download)
        trainer = Trainer(config, dataset, should_stop)
        log_description(run, trainer, sweep.as_params())
        begin_with_weights(trainer, tracker, run, download=download)
        curve, stopped = _measure(trainer, sweep, on_step)
        _log(run, curve)
    run.end(RunStatus.KILLED if stopped else RunStatus.FINISHED)
    return curve


@contextmanager
def _ended_if_it_fails(run: Run, config: TrialConfig) -> Iterator[None]:
    """End the run if an error or a KeyboardInterrupt ends the test."""
    try:
        yield
    except KeyboardInterrupt:
        end_early(run, RunStatus.KILLED, {})
        raise
    except BaseException as error:
        out_of_memory = explain_out_of_memory(error, config)
        end_early(run, RunStatus.FAILED, {}, out_of_memory or f"{type(error).__name__}: {error}")
        if out_of_memory:
            raise OutOfMemoryError(out_of_memory) from None
        raise


def _measure(trainer: Trainer, sweep: LrRange, on_step: Callable[[RatePoint], None]) -> tuple[LrCurve, bool]:
    """Return the curve, and whether it was stopped before its end."""
    points: list[RatePoint] = []
    stopped = False
    try:
        for point in range_test(trainer, lowest=sweep.lowest, highest=sweep.highest, steps=sweep.steps):
            points.append(point)
            on_step(point)
    except Interrupted:
        stopped = True
    return LrCurve(tuple(points), sweep.steps), stopped


def _log(run: Run, curve: LrCurve) -> None:
    if not curve.points:
        return
    run.log_history(
        {
            point.step: {"lr": point.lr, "loss": point.loss, "smoothed_loss": smoothed}
            for point, smoothed in zip(curve.points, curve.smoothed, strict=True)
        }
    )
    suggestion = curve.suggestion
    if suggestion is not None:
        run.log_metrics({"suggested_lr": suggestion})
    rates, losses = [point.lr for point in curve.points], [point.loss for point in curve.points]
    pictures.log_figure(
        run, "lr_range.png", lambda: pictures.lr_range(rates, losses, curve.smoothed, suggestion)
    )
