"""`lab completion`: the completion of commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command(
    short_help="Print a script that makes a shell complete commands and options.",
    epilog="""\b
Examples:
  lab completion fish > ~/.config/fish/completions/lab.fish
  echo 'eval "$(lab completion bash)"' >> ~/.bashrc
  echo 'eval "$(lab completion zsh)"' >> ~/.zshrc""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes SHELL complete commands, options and names of studies with the Tab key."""
    kind = get_completion_class(shell)
    assert kind is not None  # click has one for each of these
    click.echo(kind(ctx.find_root().command, {}, "lab", "_LAB_COMPLETE").source())
