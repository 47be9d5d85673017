"""The command line that was given, to be shown so that it can be repeated."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator

import click
from click.core import ParameterSource

from lab import study

__all__ = ["command_line", "given_options"]


def command_line(ctx: click.Context, *, only: Collection[str] | None = None) -> str:
    """Return the command of `ctx` with the parameters that the user gave, and `***` for passwords in addresses.

    Args:
        ctx: of the command.
        only: names of the parameters to keep; all if None.
    """
    given = [study.display_url(part) if "://" in part else part for part in given_options(ctx, only=only)]
    return shlex.join(["lab", ctx.info_name or "", *given])


def given_options(ctx: click.Context, *, only: Collection[str] | None = None) -> list[str]:
    """Return the parameters that the user gave to the command of `ctx`, as its arguments; see `command_line`."""
    kept = [param for param in ctx.command.params if only is None or param.name in only]
    return [part for param in kept for part in _given(ctx, param)]


def _given(ctx: click.Context, param: click.Parameter) -> Iterator[str]:
    name = param.name or ""
    if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
        return
    value = ctx.params[name] if param.expose_value else ctx.meta[f"lab.{name}"]
    values = value if isinstance(value, tuple) else (value,)
    for one in values:
        if isinstance(param, click.Option):
            yield param.opts[0]
        if not isinstance(one, bool):
            yield str(one)
