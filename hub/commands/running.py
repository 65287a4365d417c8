"""How commands run and end: settings, exit codes, and what is known to go wrong said in a sentence.

Exit codes: 0 done, 1 something is wrong and was said, 2 the command line is wrong, 3 the hub cannot be reached, 70 a
part of the hub could not live, 130 interrupted by Ctrl-C.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import click
import uvloop
from pydantic import ValidationError

from config.settings import Settings

DONE: Final = 0
WRONG: Final = 1
UNREACHED: Final = 3
INTERRUPTED: Final = 130


class CommandError(Exception):
    """Why a command ends, in a sentence for whoever typed it, and its exit code."""

    def __init__(self, message: str, code: int = WRONG) -> None:
        super().__init__(message)
        self.code = code


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; ends the command with what is wrong, all of it."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = "PARTYLINE_" + "_".join(str(part) for part in fault["loc"][:1]).upper()
            click.echo(f"{name}: {fault['msg']}", err=True)
        raise SystemExit(WRONG) from None
    except ValueError as error:
        click.echo(str(error), err=True)
        raise SystemExit(WRONG) from None


def run_hub(make: Callable[[], Coroutine[Any, Any, int]]) -> None:
    """Run the coroutine of a command that takes the hub apart, or is one: what is known to be wrong with the
    surroundings is a sentence, no trace.
    """
    from hub.app import Unfit, telling  # takes seconds: not for commands that only ask a hub

    async def told() -> int:
        gone: BrokenPipeError | None = None
        try:
            with telling():
                try:
                    return await make()
                except BrokenPipeError as error:  # nobody reads any more: nothing is wrong with the surroundings
                    gone = error
        except Unfit as error:
            raise CommandError(f"{error.code}: {error}") from error
        raise gone

    run(told)


def run(make: Callable[[], Coroutine[Any, Any, int]]) -> None:
    """Run a command's coroutine on uvloop and exit with its code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = _quietly(runner, make)
    except CommandError as error:
        click.echo(f"partyline: {error}", err=True)
        code = error.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _quietly(runner: asyncio.Runner, make: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Whoever reads what is printed may stop at any time, as `head` does: that is no fault."""
    try:
        return runner.run(make())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return DONE
