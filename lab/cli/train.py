"""`lab train`: one configuration."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.cli.again import command_line
from lab.cli.experiment import experiment_of
from lab.cli.messages import data_lines
from lab.cli.options import config_options, store_options, stores_from
from lab.cli.outer_run import InRun, outer_run_id
from lab.cli.signals import SignalStop, stop_on_signals
from lab.config import TrialConfig, load_config, parse_config, parse_values
from lab.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from lab.engines import Stores
    from lab.objective import Placement, TrialResult
    from lab.tracking import Tracker
    from lab.training import EpochResult

__all__ = ["train"]

# for the tracking store to take what is left
_END_SECONDS = 10.0
_STOP_SECONDS = 1.0


@click.command(
    cls=InRun,
    short_help="Train one configuration.",
    epilog="""\b
Examples:
  lab train --lr 0.01 --activation gelu --optimizer adam --depth 3
  lab train --dataset mnist --download --epochs 1 --filters 50,100
  lab train --preset conv3 --dataset image_folder --data-dir photos --image-size 32
  lab train --config base.yaml --seed 2
  lab train --resume 3f2c…        (the id of an interrupted run)""",
)
@click.option(
    "--config", "file", metavar="FILE", type=click.Path(path_type=Path), help="YAML file of config values."
)
@click.option(
    "--experiment",
    envvar="MLFLOW_EXPERIMENT_NAME",
    show_envvar=True,
    help="MLflow experiment of the run.  [default: the one that MLFLOW_EXPERIMENT_ID names, else lab]",
)
@click.option("--name", default="", help="Name of the run (MLflow makes one up).")
@click.option("--download", is_flag=True, help="Fetch the dataset if it is missing.")
@click.option("--resume", metavar="RUN_ID", help="Continue this run from its last checkpoint.")
@store_options
@config_options
def train(
    file: Path | None,
    experiment: str | None,
    name: str,
    download: bool,
    resume: str | None,
    tracking_uri: str | None,
    storage: str | None,
    **flags: str | None,
) -> None:
    """Train one configuration and track it in MLflow.

    Every setting has a flag; what is given there wins over --config. Lists are written 6,16.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    stores = stores_from(tracking_uri, storage)
    again = command_line(click.get_current_context(), only={"tracking_uri"})
    if resume and file is not None:
        raise ConfigError("--resume continues a run with the settings it has; leave out --config")
    with stop_on_signals("Stopping at the next step; press Ctrl-C again to end at once.") as stop:
        from lab.objective import Placement  # seconds of imports
        from lab.restore import find_run

        config = None if resume else _config(file, given)
        if config is not None:
            config = _check(config, download)
        tracker = _tracker(stores, resume)
        run_id = find_run(tracker, resume) if resume else outer_run_id(stores.tracking_uri)
        config = _with_origin(config, tracker) if config else _config_of_run(tracker, run_id or "", given)
        place = "" if run_id else experiment_of(experiment, tracker)
        placement = Placement(place, name, run_id=run_id, checkpoint_dir=stores.checkpoint_dir)
        try:
            result = _train(config, tracker, placement, download, stop, again)
        finally:
            _deliver(tracker, stores, stop)
    _print_result(result, tracker, stores.tracking_uri)


def _tracker(stores: Stores, resume: str | None) -> Tracker:
    from lab.study import database_exists
    from lab.tracking import UnavailableError, connect, prepare

    if resume and not database_exists(stores.tracking_uri):
        raise TrackingError(f"There is no run {resume}: {stores.tracking_uri} does not exist")
    try:
        prepare(stores.tracking_uri)
    except UnavailableError as error:
        if resume:
            raise
        click.echo(f"{error} What is logged is kept in .lab/journal until it answers", err=True)
    return connect(stores.tracking_uri, stores.artifact_dir, stores.journal_dir)


def _deliver(tracker: Tracker, stores: Stores, stop: SignalStop) -> None:
    """Give the store some time to take what is left; say what it has not taken."""
    from lab.cli.messages import undelivered

    left = tracker.flush(_STOP_SECONDS if stop() else _END_SECONDS)
    if left:
        click.echo(undelivered(left, stores.tracking_uri), err=True)


def _config(file: Path | None, flags: dict[str, str]) -> TrialConfig:
    values = parse_values(flags)
    return parse_config(values) if file is None else load_config(file, values)


def _config_of_run(tracker: Tracker, run_id: str, flags: dict[str, str]) -> TrialConfig:
    """Return the config that an earlier run was started with; only its placement may be another now."""
    from lab.restore import missing

    with tempfile.TemporaryDirectory() as folder:
        file = tracker.download(run_id, "config.yaml", Path(folder))
        if file is None:
            raise missing(tracker, run_id, "config.yaml")
        before = load_config(file)
        after = load_config(file, parse_values(flags))
    if after.cell_hash != before.cell_hash:
        raise ConfigError("--resume continues a run as it was; start a new one to change its settings")
    return after


def _check(config: TrialConfig, download: bool) -> TrialConfig:
    """Find what is wrong before a run is opened, and say what the data is read as.

    Returns the config with what only its data tell.
    """
    from lab.data import describe, identified, load_data
    from lab.models import summarize_config
    from lab.training import resolve_device

    describe(config)
    config = identified(config)
    dataset = load_data(config, device=resolve_device(config), download=download)
    for line in data_lines(dataset.notes):
        click.echo(line)
    channels, height, width = dataset.train.images.shape[1:]
    summarize_config(config, (channels, height, width), len(dataset.classes))
    return config


def _with_origin(config: TrialConfig, tracker: Tracker) -> TrialConfig:
    """Return `config` with the whole id of the run that it begins with; that must be there, and its model fit."""
    from lab.restore import whole_id
    from lab.study import check_stored_origins

    if config.init_from is not None:
        config = config.model_copy(update={"init_from": whole_id(tracker, config.init_from)})
    check_stored_origins([config], [], tracker)
    return config


def _train(
    config: TrialConfig, tracker: Tracker, placement: Placement, download: bool, stop: SignalStop, again: str
) -> TrialResult:
    from lab.objective import train as train_config
    from lab.training import Interrupted

    opened: list[str] = []
    try:
        return train_config(
            config,
            tracker,
            placement=placement,
            download=download,
            on_start=lambda run: opened.append(run.run_id),
            on_epoch=lambda epoch: _print_epoch(epoch, config),
            should_stop=stop,
        )
    except (Interrupted, KeyboardInterrupt):
        if not opened:
            raise
        click.echo("Stopped. All finished epochs are kept; continue with", err=True)
        click.echo(f"  {again} --resume {opened[0]}", err=True)
        sys.exit(stop.exit_code)


def _print_epoch(result: EpochResult, config: TrialConfig) -> None:
    metrics = result.metrics
    parts = [f"epoch {result.epoch:>{len(str(config.epochs))}}/{config.epochs}"]
    for split in ("train", "val"):
        if f"{split}_loss" in metrics:
            parts.append(
                f"{split} loss {metrics[f'{split}_loss']:.4f} acc {metrics.get(f'{split}_accuracy', 0):.2%}"
            )
    if "epoch_seconds" in metrics:
        parts.append(f"{metrics['epoch_seconds']:.1f} s")
    click.echo("  ".join(parts) + ("  *" if result.improved else ""))


def _print_result(result: TrialResult, tracker: Tracker, tracking_uri: str) -> None:
    from lab.cli.messages import browse
    from lab.tracking import run_in_store

    best = ""
    if result.best_value is not None:
        best = f", best {result.config.monitor} {result.best_value:.4f} in epoch {result.best_epoch}"
    click.echo(f"{result.outcome}{best}; test accuracy {result.test.accuracy:.2%} with those weights")
    run_id, experiment = result.run_id, None
    with suppress(TrackingError):  # it is still away; by the id that it has meanwhile the run is found too
        run_id = run_in_store(tracker, run_id) or run_id
        experiment = tracker.experiment_of(run_id)
    click.echo(f"run {run_id}  ({result.summary.params:,} params)")
    click.echo(browse(tracking_uri, experiment, run_id))
