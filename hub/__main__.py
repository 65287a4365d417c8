"""The command line: `partyline`, also `python -m hub`.

Commands import what they run themselves, so that `--help` is quick and Ctrl-C finds no half-made imports.

Exit codes: 0 done, 1 something is wrong and was said, 2 the command line is wrong, 3 the hub cannot be reached, 70 a
part of the hub could not live, 130 interrupted.
"""

import asyncio
import io
import signal
import sys
from typing import Any, Final

import click
import structlog

from config import logs
from config.settings import Settings
from hub.commands.completion import completion
from hub.commands.replay import replay
from hub.commands.running import load_settings, run_hub
from hub.commands.tail import tail
from hub.commands.trace import trace
from hub.commands.verify import verify

log = structlog.get_logger()

_PART = click.FloatRange(0, 1)


_EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 something is wrong and was said; 2 the command line is wrong; 3 the hub cannot be reached;"
    " 70 a part of the hub could not live; 130 interrupted."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@click.version_option(package_name="partyline")
def main() -> None:
    """A messaging hub that shares one WhatsApp and SMS number between many backends."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show ends no command
            stream.reconfigure(errors="replace")


@main.command()
@click.option("--processes", type=click.IntRange(1, 32), help="How many; else PARTYLINE_PROCESSES.")
@click.option("--roles", help="What they do, comma-separated; else PARTYLINE_ROLES.")
def serve(**options: Any) -> None:
    """Run the hub until SIGTERM or SIGINT; SIGHUP replaces its processes one after the other, if it has several."""
    overrides = {name: value for name, value in options.items() if value is not None}
    settings = load_settings(**overrides)
    logs.configure(settings.log_level, settings.log_format)
    run_hub(lambda: _serve(settings) if settings.processes == 1 else _oversee(settings, overrides))


async def _serve(settings: Settings) -> int:
    from hub import app

    stop = _event_of(signal.SIGTERM, signal.SIGINT)
    async with app.running(settings) as hub:
        _say_where(settings, hub.url)
        await stop.wait()
    return 0


def _event_of(*numbers: signal.Signals) -> asyncio.Event:
    """Set when one of these signals comes."""
    event = asyncio.Event()
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def _say_where(settings: Settings, url: str) -> None:
    if settings.admin_key is None:
        log.info("hub.admin_key", file=str(settings.data_dir / "admin_key"))
    click.echo(f"Partyline listens on {url}", err=True)


async def _oversee(settings: Settings, overrides: dict[str, Any]) -> int:
    """The parent of several processes: it serves nothing itself."""
    from hub import app, processes
    from hub.http.server import BACKLOG, url_of

    stop, roll = _event_of(signal.SIGTERM, signal.SIGINT), _event_of(signal.SIGHUP)
    async with app.prepared(settings) as postgres:
        with processes.listening(settings.host, settings.port, BACKLOG) as sockets:
            database = postgres.connect_args if postgres else None
            command, url = processes.own_command("worker"), url_of(sockets[0].getsockname())
            fleet = processes.Fleet(command, sockets, database=database, overrides=overrides)
            log.info("processes.started", processes=settings.processes, url=url)
            return await fleet.run(
                settings.processes, stop=stop, roll=roll, on_started=lambda: _say_where(settings, url)
            )


@main.command(hidden=True)
def worker() -> None:
    """Be one process of several: only `serve` starts it, and tells it what to do on its standard input."""
    from hub import worker_process

    try:
        parent = worker_process.Parent()
    except (OSError, ValueError) as error:
        raise click.UsageError("only 'partyline serve --processes N' starts this") from error
    settings = load_settings(**parent.orders.overrides)
    logs.configure(settings.log_level, settings.log_format)
    structlog.contextvars.bind_contextvars(worker=parent.orders.number)

    async def work() -> int:
        return await worker_process.work(settings, parent, _event_of(signal.SIGTERM, signal.SIGINT))

    try:
        run_hub(work)
    finally:
        parent.close()


@main.command()
def migrate() -> None:
    """Bring the database's schema up to date."""
    settings = load_settings()
    logs.configure(settings.log_level, "console")
    run_hub(lambda: _migrate(settings))


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

    run_hub(lambda: demo.play(once=once, port=port))


@main.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document a finding instead of a table.")
def check_command(*, as_json: bool) -> None:
    """Look for what is wrong: configuration, database, network, providers, services' endpoints.

    Says of each thing what was found and what to do. Exits with 1 where something fails; warnings count as passed.
    Nothing is changed, and nobody is sent an event.
    """
    settings = load_settings()
    logs.configure("error", "console")
    from hub import check

    run_hub(lambda: check.report(settings, as_json=as_json))


def _list_scenarios(context: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    """Print the scenarios, one a line, and exit."""
    if not is_wanted or context.resilient_parsing:
        return
    from hub.simulate import SCENARIOS

    width = max(map(len, SCENARIOS))
    for name, summary in SCENARIOS.items():
        click.echo(f"{name:{width}}  {summary}")
    context.exit()


@main.command("simulate")
@click.argument("scenario", default="mixed")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_scenarios,
              help="Print the scenarios there are, and exit.")  # fmt: skip
@click.option("--hub", "hub_url", metavar="URL",
              help="Where the hub listens; else on this machine, at HOST and PORT of the settings.")  # fmt: skip
@click.option("--messages", type=click.IntRange(1), default=100, show_default=True, help="How many to post.")
@click.option("--customers", type=click.IntRange(1), default=10, show_default=True, help="From how many customers.")
@click.option("--batch", type=click.IntRange(1), default=10, show_default=True, help="Most messages in one webhook.")
@click.option("--duplicates", type=_PART, default=0.05, show_default=True, help="Part of the messages posted twice.")
@click.option("--reorder", type=_PART, default=0.05, show_default=True, help="Part of the messages that swap places.")
@click.option("--no-phone", type=_PART, default=0.1, show_default=True, help="Part of the customers without phone.")
@click.option("--twilio", type=_PART, default=0.0, show_default=True, help="Part of the messages that go over Twilio.")
@click.option("--outage", type=_PART, default=0.0, show_default=True, help="Part of Twilio's webhooks that are lost.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same traffic.")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Webhooks at a time.")
@click.option("--phone-number-id", help="To this number only; all that the hub knows of unless given.")
@click.option("--api-port", type=click.IntRange(0, 65535), help="Serve the providers' APIs on this port meanwhile.")
@click.option(
    "--stay", type=click.FloatRange(0), default=10.0, show_default=True, help="Seconds longer, with --api-port."
)
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as a JSON document.")
def simulate_command(scenario: str, hub_url: str | None, **options: Any) -> None:
    """Post provider traffic to a hub, signed with the secrets of this environment.

    SCENARIO is one that --list names. Options up to --concurrency but --hub and --seed are about the mixed load, which
    is what is posted unless a scenario is named.
    """
    from hub import simulate

    if scenario not in simulate.SCENARIOS:
        raise click.BadParameter(f"there is no scenario {scenario!r}; --list names all", param_hint="SCENARIO")
    settings = load_settings()
    logs.configure("error", "console")
    run_hub(lambda: simulate.traffic(settings, scenario=scenario, hub_url=hub_url or settings.reached_here, **options))


for _command in (tail, replay, verify, trace, completion):
    main.add_command(_command)

if __name__ == "__main__":
    main(prog_name="partyline")
