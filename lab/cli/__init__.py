"""The `lab` command."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from typing import Any

import click

from lab import logs
from lab.cli.best import best
from lab.cli.check import check
from lab.cli.compare import compare
from lab.cli.completion import completion
from lab.cli.control import cancel, resume, retry, stop
from lab.cli.delete import delete
from lab.cli.diff import diff
from lab.cli.doctor import doctor
from lab.cli.effects import effects
from lab.cli.errors import errors
from lab.cli.export import export
from lab.cli.find_lr import find_lr
from lab.cli.gc import gc
from lab.cli.import_runs import import_runs
from lab.cli.importance import importance
from lab.cli.list import list_studies
from lab.cli.note import note
from lab.cli.notify import notify
from lab.cli.plan import plan
from lab.cli.predict import predict
from lab.cli.priority import priority
from lab.cli.register import register
from lab.cli.report import report
from lab.cli.results import results
from lab.cli.schema import schema
from lab.cli.serve import serve
from lab.cli.status import status
from lab.cli.submit import submit
from lab.cli.sweep import sweep
from lab.cli.sync import sync
from lab.cli.tag import tag
from lab.cli.train import train
from lab.cli.ui import ui
from lab.cli.version import installed_version
from lab.cli.watch import watch
from lab.cli.worker import worker
from lab.errors import LabError, printable
from lab.letters import write_any_letter

__all__ = ["main"]


_GROUPS = {
    "Train": (train, find_lr, sweep, submit, worker),
    "Plan and look": (
        check,
        plan,
        watch,
        ui,
        list_studies,
        status,
        best,
        effects,
        importance,
        compare,
        diff,
        errors,
        report,
        results,
    ),
    "Use a model": (register, predict, export),
    "Control": (cancel, resume, retry, stop, priority, notify),
    "Tidy up": (tag, note, delete),
    "Stores": (serve, sync, import_runs, doctor, gc),
    "Editor and shell": (schema, completion),
}


class _Group(click.Group):
    """Reports an error in one message, and exits with the code of that error; its help has the commands in groups."""

    def main(self, *args: Any, **options: Any) -> Any:
        write_any_letter()
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where an error can still be told
            return result
        except LabError as error:
            _tell("\n".join(map(printable, str(error).split("\n"))))
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _give_up_output()
            where = "The output" if error.filename is None else printable(str(error.filename))
            _tell(f"{where} cannot be written: {error.strerror}. Free some space, and run the command again")
            ctx.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, self.commands))
        for title, commands in _GROUPS.items():
            with formatter.section(title):
                rows = [
                    (f"{command.name:<{longest}}", command.get_short_help_str(200)) for command in commands
                ]
                formatter.write_dl(rows)


def _give_up_output() -> None:
    """Drop what stdout still holds: Python would try to write it at its exit, and tell of that by a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    Find a learning rate to begin with:
      lab find-lr base.yaml
    See what a grid would train, before any compute is used:
      lab plan grids/quickstart.yaml
    Train all of it, in parallel across cores or GPUs; after Ctrl-C, the same command resumes it:
      lab sweep grids/quickstart.yaml
    Train it on a cluster: start the stores once, on a machine that the nodes reach, and let Slurm or Ray place workers:
      lab serve --host NAME
      lab sweep grids/quickstart.yaml --on slurm --workers 8 --gpus-per-worker 1 --time 4h
      lab sweep grids/quickstart.yaml --on ray --workers 8
    Or queue it for workers, on this machine or on others:
      lab submit grids/quickstart.yaml
      lab worker
      lab watch quickstart
    Check progress, and see what won:
      lab status quickstart
      lab best quickstart
    Look closer: the effect of each value, which settings mattered, whether one study is better than another, what
    differs between two runs, the errors of a model, a comparison with published figures:
      lab effects quickstart
      lab importance quickstart
      lab compare quickstart another
      lab diff RUN_ID RUN_ID
      lab errors RUN_ID
      lab results grids/quickstart.yaml
    Put all of it on one page, to keep or to send:
      lab report quickstart
    Put the best model to use: under a name, on pictures, in other programs:
      lab register quickstart --name digits --alias champion
      lab predict models:/digits@champion photos/
      lab export models:/digits@champion --format onnx --out digits.onnx
    Deliver what was logged while the MLflow server was unreachable:
      lab sync
    Check the stores and this machine, and free disk space:
      lab doctor
      lab gc

    Studies are kept in .lab/ in the working directory, or on the server that `lab serve` runs there. To use another
    database and MLflow server, set --storage and --tracking-uri (or LAB_STORAGE and MLFLOW_TRACKING_URI).
    """
    # Torch reads this when it is imported: its threads then sleep instead of spinning while they wait for each other.
    # With two threads on two cores this is as fast on an idle machine, and five times as fast next to two busy
    # processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logs.one_line_warnings()


for _commands in _GROUPS.values():
    for _command in _commands:
        main.add_command(_command)
