"""Plays the story live: hub, database, simulated providers, three services and their customers in one process."""

import asyncio
import io
import signal
import sys
import time
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hub.demo_live import stay_up
from hub.demo_stage import NotHeldError, Stage, open_stage
from hub.demo_story import STORY, Step

_STEP_LIMIT: Final = 15.0
"""Seconds a step may take before it counts as not held."""
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How one step went; `problem` is None where it held."""

    step: Step
    seconds: float
    problem: str | None


async def play(*, once: bool, port: int) -> int:
    """Play the story; unless `once`, stay up for the visitor until SIGINT or SIGTERM. 0 when every step held."""
    console, stop = _console(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    show, stopped = asyncio.create_task(_show(console, once, port)), asyncio.create_task(stop.wait())
    await asyncio.wait({show, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    show.cancel()
    try:
        code = await show
    except asyncio.CancelledError:
        code = _INTERRUPTED
    except ImportError as error:
        console.print(f"[red]The demo plays with the examples of a checkout: run `make demo` there ({error}).[/]")
        return 1
    except OSError as error:
        console.print(f"[red]The demo could not start: {escape(str(error))}[/]")
        return 1
    console.print("[dim]stopped; nothing is left behind[/]")
    return code


def _console() -> Console:
    """For a terminal of any kind, or none: then wide, and plain."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, width=None if sys.stdout.isatty() else 150)


async def _show(console: Console, once: bool, port: int) -> int:
    began = time.perf_counter()
    console.print("[b]Partyline[/]: one number, many backends. Starting PostgreSQL, the hub and everyone around it ...")
    async with open_stage(port) as stage:
        console.print(f"[dim]up after {time.perf_counter() - began:.1f} s[/]\n")
        outcomes = [await _tell(console, stage, number, step) for number, step in enumerate(STORY, 1)]
        _summarise(console, outcomes, time.perf_counter() - began)
        if not once:
            await stay_up(console, stage)
    return int(any(outcome.problem is not None for outcome in outcomes))


async def _tell(console: Console, stage: Stage, number: int, step: Step) -> _Outcome:
    """Play one step and print it."""
    began = time.perf_counter()
    lines: list[str] = []
    problem: str | None = None
    try:
        with console.status(step.title):
            async with asyncio.timeout(_STEP_LIMIT):
                lines = await step.play(stage)
    except NotHeldError as error:
        problem = str(error)
    except TimeoutError:
        problem = "it took too long"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    mark = "[red]✗[/]" if problem else "[green]✓[/]"
    console.print(f"{mark} [b]{number:2} {step.title}[/] [dim]{seconds * 1000:.0f} ms[/]")
    for line in [f"[red]did not hold: {escape(problem)}[/]"] if problem else lines:
        console.print(f"     {line}")
    return _Outcome(step, seconds, problem)


def _summarise(console: Console, outcomes: list[_Outcome], seconds: float) -> None:
    held = sum(outcome.problem is None for outcome in outcomes)
    table = Table(title="What happened", title_justify="left")
    table.add_column("step")
    table.add_column("result")
    table.add_column("ms", justify="right")
    for number, outcome in enumerate(outcomes, 1):
        result = f"[red]{escape(outcome.problem)}[/]" if outcome.problem else "[green]held[/]"
        table.add_row(f"{number:2} {outcome.step.title}", result, f"{outcome.seconds * 1000:.0f}")
    console.print()
    console.print(table)
    console.print(f"[b]{held} of {len(outcomes)} steps held[/], in {seconds:.1f} s")
