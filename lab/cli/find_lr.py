"""`lab find-lr`: the learning-rate range test of one configuration."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from lab import engines, objective
from lab.cli.messages import browse
from lab.cli.options import config_options, store_options, stores_from
from lab.cli.plugin_options import PluginCommand
from lab.cli.signals import SignalStop, stop_on_signals
from lab.cli.single_run import checked, config_of, deliver
from lab.errors import ConfigError

if TYPE_CHECKING:
    from lab.engines import Single
    from lab.objective import LrRange
    from lab.training import LrCurve, RatePoint

__all__ = ["find_lr"]

_LINES = 20  # of progress, at most


@click.command(
    "find-lr",
    cls=PluginCommand,
    short_help="Suggest a learning rate for one configuration.",
    epilog="""\b
Examples:
  lab find-lr base.yaml
  lab find-lr --dataset digits --optimizer sgd --momentum 0.9
  lab find-lr base.yaml --batch-size 512 --from 1e-5 --to 1 --steps 400""",
)
@click.argument("file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "lowest",
    type=float,
    default=1e-6,
    show_default=True,
    metavar="RATE",
    help="Learning rate of the first step.",
)
@click.option(
    "--to",
    "highest",
    type=float,
    default=10.0,
    show_default=True,
    metavar="RATE",
    help="Learning rate of the last step.",
)
@click.option(
    "--steps",
    type=click.IntRange(10, 100_000),
    default=200,
    show_default=True,
    metavar="N",
    help="Number of optimizer steps; more make the curve smoother.",
)
@click.option(
    "--experiment",
    envvar="MLFLOW_EXPERIMENT_NAME",
    show_envvar=True,
    help="MLflow experiment for the run.  [default: the one with the id MLFLOW_EXPERIMENT_ID, else lab]",
)
@click.option("--name", default="find-lr", show_default=True, help="Name of the run.")
@click.option(
    "--download", is_flag=True, help="Download the dataset and pretrained weights if they are missing."
)
@store_options
@config_options
def find_lr(
    file: Path | None,
    lowest: float,
    highest: float,
    steps: int,
    experiment: str | None,
    name: str,
    download: bool,
    tracking_uri: str | None,
    storage: str | None,
    **flags: str | None,
) -> None:
    """Suggest a learning rate for one configuration, with a range test.

    The model trains for a few steps while its learning rate rises exponentially. While the rate is too small, the loss
    hardly moves; then it falls; and once the rate is too large, it rises again, and the test stops. The suggestion is
    the rate at which the smoothed loss falls most steeply (Smith 2017). Take it as a place to begin: sweep a few rates
    around it, such as a third of it and three times it. For one_cycle, and after a warm-up, larger rates work too.

    CONFIG is a YAML file of settings, as for `lab train --config`. Every setting has an option, which overrides it. The
    optimizer, batch size, augmentation and everything else that changes training count; `lr`, the scheduler and the
    number of epochs do not.

    MLflow has the curve: `lr`, `loss` and `smoothed_loss` by step, and the figure lr_range.png. After Ctrl-C, it ends
    at the last step.
    """
    if not 0 < lowest < highest < math.inf:
        raise ConfigError(
            f"--from must be above 0 and below --to, but got --from {lowest:g} --to {highest:g}"
        )
    given = {key: value for key, value in flags.items() if value is not None}
    stores = stores_from(tracking_uri, storage)
    message = "Stopping at the next step; the curve until then is kept. Press Ctrl-C again to end at once."
    with stop_on_signals(message) as stop:
        single = checked(config_of(file, given), stores, download)
        try:
            run_id, curve = _test(
                single, objective.LrRange(lowest, highest, steps), experiment, name, download, stop
            )
        except KeyboardInterrupt:
            sys.exit(stop.exit_code)
        finally:
            deliver(single, stop)
    _print_result(single, run_id, curve, stopped=stop())
    if stop():
        sys.exit(stop.exit_code)


def _test(
    single: Single, sweep: LrRange, experiment: str | None, name: str, download: bool, stop: SignalStop
) -> tuple[str, LrCurve]:
    context = click.get_current_context()
    chosen = context.get_parameter_source("experiment") is ParameterSource.COMMANDLINE
    opened: list[str] = []
    every = math.ceil(sweep.steps / _LINES)

    def tell(point: RatePoint) -> None:
        if point.step % every == 0:
            click.echo(
                f"step {point.step:>{len(str(sweep.steps))}}  lr {point.lr:.2e}  loss {point.loss:.4f}"
            )

    curve = single.find_lr(
        sweep,
        experiment=engines.experiment_for(experiment, single.tracker, chosen=chosen),
        name=name,
        download=download,
        on_start=lambda run: opened.append(run.run_id),
        on_step=tell,
        should_stop=stop,
    )
    return opened[0], curve


def _print_result(single: Single, run_id: str, curve: LrCurve, *, stopped: bool) -> None:
    done = len(curve.points)
    if done < curve.planned:
        last = f" at lr {curve.points[-1].lr:.2e}" if curve.points else ""
        ended = "Stopped" if stopped else "The loss diverged"
        click.echo(f"{ended} after {done} of {curve.planned} steps{last}.")
    if curve.suggestion is not None:
        click.echo(f"Suggestion: lr={curve.suggestion:.1e}, where the loss falls most steeply")
    elif not stopped:
        click.echo("No suggestion: the loss never fell. Try other rates (--from, --to) or more --steps")
    stored, experiment = single.stored(run_id)
    click.echo(f"run {stored}")
    click.echo(browse(single.stores.tracking_uri, experiment, stored))
