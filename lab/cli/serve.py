"""`lab serve`: the stores of a group, from one command."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress

from lab import engines
from lab import serve as server
from lab.cli.again import given_options
from lab.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from lab.serve import ServerStatus, Started

__all__ = ["serve"]

_FOLDER = Path(".lab")
_STOPPING = "Stopping MLflow, then PostgreSQL. Nothing is lost: `lab serve` starts them again."


@click.command(
    short_help="Run PostgreSQL and MLflow, for one machine or several.",
    epilog="""\b
Examples:
  lab serve                           (for this machine, until Ctrl-C; for example in tmux)
  lab serve --host login1 --detach    (for the other machines of a cluster too, in the background)
  lab serve --import .lab             (with the studies and runs that this folder has so far)
  lab serve --status
  lab serve --stop                    (from another terminal)
  lab serve --upgrade                 (after an update of lab, MLflow, Optuna or PostgreSQL)

It needs no root, no Docker and no installed database: pip install 'lab[serve]'.

While it runs, `lab sweep`, `lab worker`, `lab status` and all other commands use it in this folder. From another
folder or machine, name its server file: --server FILE, or LAB_SERVER=FILE. Whoever can read that file can use the
stores, so only you can. To let others use them, give them a copy.

The databases and the artifacts are in .lab/server. Ports and passwords stay the same when it is started again. A
password is needed on this machine too, since other users can reach its ports. Connections are not encrypted: use
--host only in a network that you trust, or use ssh -L.""",
)
@click.option(
    "--host",
    metavar="NAME",
    help="Name or address at which other machines reach this one; 0.0.0.0 for all its addresses.  "
    "[default: 127.0.0.1, for this machine only]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Port of MLflow.  [default: the last one used, or a free one]",
)
@click.option(
    "--postgres-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Port of PostgreSQL.  [default: the last one used, or a free one]",
)
@click.option(
    "--import",
    "source",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Also move the studies and runs of FOLDER, the .lab of a single machine, to this server.",
)
@click.option("--detach", is_flag=True, help="Run in the background, and return once both answer.")
@click.option("--status", "show", is_flag=True, help="Say whether it runs, where, and whether it answers.")
@click.option(
    "--stop", "end", is_flag=True, help="Stop the server of this folder, and wait until it is down."
)
@click.option(
    "--upgrade", is_flag=True, help="Upgrade the databases to the installed versions, while it is stopped."
)
@click.pass_context
def serve(
    ctx: click.Context,
    host: str | None,
    port: int | None,
    postgres_port: int | None,
    source: Path | None,
    detach: bool,
    show: bool,
    end: bool,
    upgrade: bool,
) -> None:
    """Run PostgreSQL and an MLflow server for this folder, and let other commands find them.

    Ctrl-C or SIGTERM stops both cleanly; the exit code is then 128 + the signal's number (130, 143). If one of them
    crashes, it is started again. The exit code of --status is 0 if both answer, and 1 otherwise.
    """
    if [detach, show, end, upgrade].count(True) > 1:
        raise click.UsageError("--detach, --status, --stop and --upgrade cannot be combined")
    if show:
        _show_status()
    elif end:
        click.echo("Stopped" if server.stop(_FOLDER) else "It was not running")
    elif upgrade:
        server.upgrade(_FOLDER, _say)
        click.echo("Everything is up to date; start it with `lab serve`")
    elif source is not None and (running := server.status(_FOLDER).started):
        _import(source, running)
    elif detach:
        started = server.start_detached(_FOLDER, given_options(ctx, only={"host", "port", "postgres_port"}))
        _show(started, "`lab serve --stop`")
        if source is not None:  # whether or not that succeeds, the server runs
            _import(source, started)
    else:
        _run(host, port, postgres_port, source)


def _run(host: str | None, port: int | None, postgres_port: int | None, source: Path | None) -> None:
    with stop_on_signals(_STOPPING) as stop:
        _stop_on_hangup()
        bar = _bar()

        def show(started: Started) -> None:
            bar.stop()
            _show(started)

        server.serve(
            _FOLDER,
            host=host,
            mlflow_port=port,
            postgres_port=postgres_port,
            import_from=source,
            stop=stop,
            on_progress=partial(_advance, bar),
            on_start=show,
            say=_say,
        )
    sys.exit(stop.exit_code)


def _import(source: Path, into: Started) -> None:
    with _bar() as bar:
        imported = into.take_over(source, partial(_advance, bar))
    click.echo(str(imported))


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _advance(bar: Progress, what: str, done: int, total: int) -> None:
    """Show how much of `what` is imported; the bar appears with the first of it."""
    bar.start()
    task = bar.task_ids[0] if bar.task_ids else bar.add_task(what)
    bar.update(task, description=what, completed=done, total=total)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _show(started: Started, how: str = "Ctrl-C or `lab serve --stop`") -> None:
    where = started.server
    click.echo(f"MLflow UI: {engines.link(where.tracking_uri).url}")
    click.echo(f"  user name: {where.username}, password: in {started.file}")
    click.echo("Commands in this folder use these stores now. Elsewhere:")
    click.echo(f"  export LAB_SERVER={started.file}")
    if where.is_local:
        click.echo("Only this machine can reach them; for others: lab serve --host NAME")
    click.echo(f"{how} stops the server; nothing is lost.")


def _show_status() -> None:
    found: ServerStatus = server.status(_FOLDER)
    if found.server is None or not found.process:
        click.echo("Not running; start it with `lab serve`")
    else:
        click.echo(f"{found.process}; server file {found.file}")
        for what, address in (("MLflow UI", found.server.tracking_uri), ("PostgreSQL", found.server.storage)):
            click.echo(f"{what}: {address}{', which does not answer' if address == found.silent else ''}")
    sys.exit(found.started is None)


def _stop_on_hangup() -> None:
    """Stop in order if the terminal is closed, unless `nohup` says not to."""
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        signal.signal(hangup, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
