"""Plug-ins on the command line: `--use`, an option for every setting of theirs, and their names in `--help`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from lab import plugins
from lab.cli.options import setting_option
from lab.cli.outer_run import InRun
from lab.config import (
    NAMING,
    PRESETS,
    SECTIONS,
    TrialConfig,
    also_called,
    load_plugins,
    own_fields,
    read_yaml,
    takers_of,
)

__all__ = ["PluginCommand", "use_option"]

Command = TypeVar("Command", bound=Callable[..., Any])

_COLUMN = 30  # the width that click gives options at most


def use_option(command: Command) -> Command:
    """Add `--use`, which loads plug-ins before a grid file is read."""
    return click.option(
        "--use",
        multiple=True,
        metavar="MODULE",
        is_eager=True,
        expose_value=False,
        callback=_use,
        help="Load this plug-in first, e.g. my_nets or ./my_nets.py, in addition to those that the file's `use` names. "
        "May be repeated.",
    )(command)


def _use(ctx: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> None:
    ctx.meta["lab.use"] = names
    plugins.use(*_parts(names))


class PluginCommand(InRun):
    """A command with an option for every setting, also for those of the plug-ins that its arguments name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Load the plug-ins, and parse the arguments."""
        args = list(self._written_out(args))
        plugins.use_installed()
        plugins.use(*_parts(_given(args, "use")))
        for file in map(Path, (*_given(args, "config"), *self._arguments(args))):
            if os.path.isfile(file):  # otherwise the command says so
                with plugins.trusted(file.parent):
                    load_plugins(read_yaml(file))
        with plugins.trusted():
            for name, known in NAMING.items():
                for path in (part for part in _parts(_given(args, name)) if ":" in part):
                    known.canonical(path)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            setting = also_called(error.option_name.removeprefix("--").replace("-", "_"))
            if setting is None:
                raise
            message = f"{error.message} Did you mean '--{setting}'?"
            raise click.NoSuchOption(error.option_name, message, ctx=ctx) from None

    def _arguments(self, args: Sequence[str]) -> list[str]:
        """Return those of `args` that are no options, nor their values, as many as the command takes: files."""
        flags = {word for param in self.params if getattr(param, "is_flag", False) for word in param.opts}
        count = sum(isinstance(param, click.Argument) for param in self.params)
        return list(itertools.islice(_no_options(args, {*flags, "--help"}), count))

    def _written_out(self, args: Sequence[str]) -> Iterator[str]:
        """Yield `args`, with `=true` for a bare option that would take the file behind it for its value."""
        takes_file = any(isinstance(param, click.Argument) for param in self.params)
        switches = {word for param in self.params if _may_be_bare(param) for word in param.opts}
        for arg, following in itertools.zip_longest(args, args[1:], fillvalue=""):
            is_bare = takes_file and arg.replace("_", "-") in switches and os.path.isfile(following)
            yield f"{arg}=true" if is_bare else arg

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options, those of plug-ins last."""
        own = [setting_option(name, field) for name, field in own_fields().items()]
        return [*super().get_params(ctx), *own]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, the settings in their sections, and the names that they can have."""
        titles, own = _titles(), own_fields()
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], **{title: [] for title in SECTIONS}}
        for param in self.get_params(ctx):
            name, record = param.name or "", param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                title = "Settings of plug-ins" if name in own else titles.get(name, "Options")
                facts = f"  [of {takers_of(name)}]" if name in own else _known(name)
                sections.setdefault(title, []).append((f"{record[0]:<{_COLUMN}}", record[1] + facts))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def _may_be_bare(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and not param.is_flag and param.flag_value == "true"


def _titles() -> dict[str, str]:
    """Return the section of each of lab's settings."""
    begun, title, found = {first: title for title, first in SECTIONS.items()}, "", {}
    for name in TrialConfig.model_fields:
        title = found[name] = begun.get(name, title)
    return found


def _known(setting: str) -> str:
    """Return the names that a setting can have, those of plug-ins too, for its help; empty if it takes none."""
    if setting == "preset":
        names = [*PRESETS]
    elif setting in NAMING and setting != "dense_activation":  # it takes what `activation` takes
        known = NAMING[setting]
        names = [*sorted(known), *(f"{prefix}/NAME" for prefix in known.prefixes)]
    else:
        return ""
    return f"  [known: {', '.join(names)}]"


def _parts(names: Sequence[str]) -> list[str]:
    return [part.strip() for name in names for part in name.split(",") if part.strip()]


def _given(args: Sequence[str], name: str) -> list[str]:
    """Return the values that the arguments have for an option, as click would find them."""
    return list(_values(args, {f"--{name}", f"--{name.replace('_', '-')}"}))


def _no_options(args: Sequence[str], flags: Collection[str]) -> Iterator[str]:
    """Yield what is no option, nor the value of one: any but `flags` takes a value, also one that is not known yet."""
    takes_value = False
    for arg in args:
        is_option = arg.startswith("--")
        if not is_option and not takes_value:
            yield arg
        takes_value = is_option and "=" not in arg and arg not in flags


def _values(args: Sequence[str], options: set[str]) -> Iterator[str]:
    for number, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        if option in options and equals:
            yield value
        elif arg in options and number + 1 < len(args):
            yield args[number + 1]
