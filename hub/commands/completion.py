"""`partyline completion SHELL`: what makes a shell complete commands and options."""

import click
from click.shell_completion import get_completion_class

from hub.commands.running import WRONG

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete this command.

    For bash: partyline completion bash > ~/.local/share/bash-completion/completions/partyline
    """
    made = get_completion_class(shell)
    if made is None:
        raise SystemExit(WRONG)
    click.echo(made(context.find_root().command, {}, "partyline", "_PARTYLINE_COMPLETE").source())
