"""Checks of the `lab serve` whose stores are used."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from lab.errors import ConfigError
from lab.server_file import read_server_file, why_silent
from lab.upkeep.finding import Finding, Verdict

__all__ = ["check_server"]

_CHECK = "server"


def check_server(file: Path) -> Iterator[Finding]:
    """Check the server that `file` names, and who may read its passwords there."""
    try:
        server = read_server_file(file)
    except ConfigError as error:
        yield Finding(_CHECK, Verdict.FAILED, str(error), "lab serve")
        return
    silent = server.silent()
    if silent:
        what, _, mend = why_silent(file, server, silent).partition(": ")
        yield Finding(_CHECK, Verdict.FAILED, what, mend)
    else:
        yield Finding(
            _CHECK, Verdict.OK, f"`lab serve` answers: process {server.pid} on {server.host}, from {file}"
        )
    if stat.S_IMODE(file.stat().st_mode) & (stat.S_IRGRP | stat.S_IROTH):
        found = f"{file} has passwords, and other users of this machine can read it"
        yield Finding("server file", Verdict.WARNING, found, f"chmod 600 {file}")
