"""The command line: `partyline`, also `python -m hub`.

Commands import what they run themselves, so that `--help` is quick and Ctrl-C finds no half-made imports.

Exit codes: 0 done, 1 something is wrong and was said, 2 the command line is wrong, 70 a part of the hub could not live.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click
import structlog
import uvloop
from pydantic import ValidationError

from config import logs
from config.settings import Settings

log = structlog.get_logger()

_PART = click.FloatRange(0, 1)


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; ends the command with what is wrong, all of it."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = "PARTYLINE_" + "_".join(str(part) for part in fault["loc"][:1]).upper()
            click.echo(f"{name}: {fault['msg']}", err=True)
        raise SystemExit(1) from None
    except ValueError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None


def run(make: Callable[[], Coroutine[Any, Any, int]]) -> None:
    """Run a command's coroutine on uvloop and exit with its code; known refusals are a sentence, no trace."""
    from hub.app import Unfit, telling

    try:
        with telling(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(make())
    except Unfit as error:
        click.echo(f"partyline: {error.code}: {error}", err=True)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="partyline")
def main() -> None:
    """A messaging hub that shares one WhatsApp and SMS number between many backends."""


@main.command()
def serve() -> None:
    """Run the hub until SIGTERM or SIGINT."""
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    run(lambda: _serve(settings))


async def _serve(settings: Settings) -> int:
    from hub import app

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with app.running(settings) as hub:
        if settings.admin_key is None:
            log.info("hub.admin_key", file=str(settings.data_dir / "admin_key"))
        click.echo(f"Partyline listens on {hub.url}", err=True)
        await stop.wait()
    return 0


@main.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    settings = load_settings()
    logs.configure(settings.log_level, "console")
    run(lambda: _migrate(settings))


async def _migrate(settings: Settings) -> int:
    from hub import app

    async with app.open_database(settings) as (database, _):
        ran = await app.run_migrations(database)
    for name in ran:
        click.echo(f"ran {name}")
    click.echo("the schema is up to date")
    return 0


@main.command("demo")
@click.option("--once", is_flag=True, help="Play the story and exit: 0 only if every step held.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one", help="Port of the hub.")
def demo_command(*, once: bool, port: int) -> None:
    """Play the whole story live: hub, provider simulator, three services, two customers."""
    logs.configure("error", "console")
    from hub import demo

    run(lambda: demo.play(once=once, port=port))


@main.command("check")
def check_command() -> None:
    """Look for what is wrong with the configuration, the database, the providers."""
    settings = load_settings()
    logs.configure("error", "console")
    from hub import check

    run(lambda: check.report(settings))


@main.command("simulate")
@click.option("--hub", "hub_url", default="http://127.0.0.1:8080", show_default=True, help="Where the hub listens.")
@click.option("--messages", type=click.IntRange(1), default=100, show_default=True, help="How many to post.")
@click.option("--customers", type=click.IntRange(1), default=10, show_default=True, help="From how many customers.")
@click.option("--batch", type=click.IntRange(1), default=10, show_default=True, help="Most messages in one webhook.")
@click.option("--duplicates", type=_PART, default=0.05, show_default=True, help="Part of the messages posted twice.")
@click.option("--reorder", type=_PART, default=0.05, show_default=True, help="Part of the messages that swap places.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same traffic.")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Webhooks at a time.")
@click.option("--phone-number-id", help="To this number only; all that the hub knows of unless given.")
def simulate_command(**options: Any) -> None:
    """Post provider traffic to a hub, signed with the secrets of this environment."""
    settings = load_settings()
    logs.configure("error", "console")
    from hub import simulate

    run(lambda: simulate.traffic(settings, **options))


if __name__ == "__main__":
    main(prog_name="partyline")
