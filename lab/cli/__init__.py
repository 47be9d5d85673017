"""The `lab` command."""

from __future__ import annotations

import logging
import os
from typing import Any

import click

from lab import logs
from lab.cli.best import best
from lab.cli.check import check
from lab.cli.control import cancel, resume, retry
from lab.cli.doctor import doctor
from lab.cli.effects import effects
from lab.cli.errors import errors
from lab.cli.gc import gc
from lab.cli.plan import plan
from lab.cli.results import results
from lab.cli.serve import serve
from lab.cli.status import status
from lab.cli.submit import submit
from lab.cli.sweep import sweep
from lab.cli.sync import sync
from lab.cli.train import train
from lab.cli.version import installed_version
from lab.cli.watch import watch
from lab.cli.worker import worker
from lab.errors import LabError, printable
from lab.letters import write_any_letter

__all__ = ["main"]


class _Group(click.Group):
    """Reports an error in one message, and exits with the code of that error."""

    def main(self, *args: Any, **options: Any) -> Any:
        write_any_letter()
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            _tell("\n".join(map(printable, str(error).split("\n"))))
            ctx.exit(error.exit_code)


def _tell(error: str) -> None:
    if logs.configured_format() == "json":
        logging.getLogger("lab").error(error, extra=logs.event("error"))
        return
    click.secho("Error: ", err=True, fg="red", bold=True, nl=False)
    click.echo(error, err=True)


_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 120,
    # `mlflow run -P batch_size=8` passes `--batch_size`, the setting's name everywhere else
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


@click.group(cls=_Group, context_settings=_SETTINGS)
@click.version_option(installed_version())
def main() -> None:
    """Train grids of image-classification trials, and track each trial in MLflow.

    \b
    Train one configuration:
      lab train --dataset digits --activation gelu --lr 0.01
    See what a grid would train, before any compute is used:
      lab plan grids/quickstart.yaml
    Train all of it, in parallel across cores or GPUs; after Ctrl-C, the same command resumes it:
      lab sweep grids/quickstart.yaml
    Or queue it for workers, on this machine or on others:
      lab submit grids/quickstart.yaml
      lab worker
      lab watch quickstart
    Check progress, and see what won:
      lab status quickstart
      lab best quickstart
    Look closer: the effect of each value, the errors of a model, a comparison with published figures:
      lab effects quickstart
      lab errors RUN_ID
      lab results grids/quickstart.yaml
    Deliver what was logged while the MLflow server was unreachable:
      lab sync
    Check the stores and this machine, and free disk space:
      lab doctor
      lab gc

    Studies are kept in .lab/ in the working directory. To use another database and an MLflow server, set --storage
    and --tracking-uri (or LAB_STORAGE and MLFLOW_TRACKING_URI).
    """
    # Torch reads this when it is imported: its threads then sleep instead of spinning while they wait for each other.
    # With two threads on two cores this is as fast on an idle machine, and five times as fast next to two busy
    # processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


_LOOKING = (plan, check, status, best, effects, errors, results)
_SERVICE = (serve, submit, worker, watch, cancel, resume, retry, sync)
_UPKEEP = (doctor, gc)
for _command in (train, sweep, *_LOOKING, *_SERVICE, *_UPKEEP):
    main.add_command(_command)
