"""What the commands that train one configuration share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab import engines
from lab.cli.messages import data_lines, undelivered
from lab.cli.signals import SignalStop
from lab.config import load_config, parse_config, parse_values

if TYPE_CHECKING:
    from lab.config import TrialConfig
    from lab.engines import Single, Stores

__all__ = ["checked", "config_of", "deliver"]

# for the tracking store to take the last writes
_END_SECONDS = 10.0
_STOP_SECONDS = 1.0


def config_of(file: Path | None, flags: dict[str, str]) -> TrialConfig:
    """Return the config of a YAML file of settings, if one is given, with those of the command line above it."""
    values = parse_values(flags)
    return parse_config(values) if file is None else load_config(file, values)


def checked(config: TrialConfig, stores: Stores, download: bool) -> Single:
    """Return the config, checked, and its stores; print what should be known about the data and the stores."""

    def tell(notes: Sequence[str]) -> None:
        for line in data_lines(notes):
            click.echo(line)

    def warn(trouble: str) -> None:
        click.echo(f"{trouble} Until it answers, everything logged is kept in .lab/journal", err=True)

    return engines.new_single(config, stores, download=download, on_data=tell, on_trouble=warn)


def deliver(single: Single, stop: SignalStop) -> None:
    """Give the store some time to take the last writes; print how many it has not taken."""
    left = single.tracker.flush(_STOP_SECONDS if stop() else _END_SECONDS)
    if left:
        click.echo(undelivered(left, single.stores.tracking_uri), err=True)
