"""`lab serve`: the stores of a group, from one command."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab import engines
from lab import serve as server
from lab.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from lab.serve import Started

__all__ = ["serve"]

_FOLDER = Path(".lab")
_STOPPING = "Stopping MLflow, then PostgreSQL. Nothing is lost: `lab serve` starts them again."


@click.command(
    short_help="Run PostgreSQL and MLflow for several machines.",
    epilog="""\b
Examples:
  lab serve                           (for this machine; for example in tmux on a login node)
  lab serve --host login1             (for the other machines of a cluster too)
  lab serve --status
  lab serve --stop                    (from another terminal; Ctrl-C does the same)

It needs no root, no Docker and no installed database: pip install 'lab[serve]'.

While it runs, `lab sweep`, `lab worker`, `lab status` and all other commands use it in this folder. From another
folder or machine, name its server file: --server FILE, or LAB_SERVER=FILE. Whoever can read that file can use the
stores, so only you can. To let others use them, give them a copy.

The databases and the artifacts are in .lab/server. Ports and passwords stay the same when it is started again.
Connections are not encrypted; use --host only in a network that you trust, or ssh -L.""",
)
@click.option(
    "--host",
    metavar="NAME",
    help="Name or address of this machine, by which others reach it; 0.0.0.0: any.  [default: only this machine]",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of MLflow.  [default: the last, or a free one]"
)
@click.option(
    "--postgres-port",
    type=click.IntRange(1, 65535),
    help="Port of PostgreSQL.  [default: the last, or a free one]",
)
def serve(host: str | None, port: int | None, postgres_port: int | None) -> None:
    """Run PostgreSQL and an MLflow server for this folder, and tell other commands where they are.

    Ctrl-C or SIGTERM stops both in order; the exit code is then 128 + the signal's number (130, 143). If one of them
    crashes it is started again.
    """
    _run(host, port, postgres_port)


def _run(host: str | None, port: int | None, postgres_port: int | None) -> None:
    with stop_on_signals(_STOPPING) as stop:
        _stop_on_hangup()
        click.echo("Starting PostgreSQL and MLflow; the first time takes half a minute", err=True)
        server.serve(
            _FOLDER,
            **({} if host is None else {"host": host}),
            mlflow_port=port,
            postgres_port=postgres_port,
            stop=stop,
            on_start=_show,
            say=lambda text: click.echo(text, err=True),
        )
    sys.exit(stop.exit_code)


def _show(started: Started) -> None:
    where = started.server
    click.echo(f"MLflow UI: {engines.link(where.tracking_uri).url}")
    click.echo(f"  user name {where.username}, password in {started.file}")
    click.echo("Commands in this folder use these stores now; elsewhere:")
    click.echo(f"  export LAB_SERVER={started.file}")
    if started.is_local:
        click.echo("Only this machine can reach them; for others: lab serve --host NAME")
    click.echo("Ctrl-C or `lab serve --stop` stops the server; nothing is lost.")


def _stop_on_hangup() -> None:
    """Stop in order if the terminal is closed, unless `nohup` says not to."""
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        signal.signal(hangup, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
