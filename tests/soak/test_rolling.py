"""The long form of the rolling restart: a minute of load, one after the other; and a process killed every 3 s (B3)."""

# ruff: noqa: T201 - the figures are what a soak run is for

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.serving import HubProcess, SteadyLoad, assert_heard, serving
from tests.support.wire import Wire

pytestmark = pytest.mark.soak

SECONDS = 60
SETTINGS = {"PARTYLINE_LOG_LEVEL": "info", "PARTYLINE_PROCESSES": "2", "PARTYLINE_DELIVERY_TIMEOUT": "2"}


def summary(load: SteadyLoad) -> str:
    """What became of the requests, on one line."""
    others = {name: count for name, count in load.outcomes.items() if name != "200"}
    parts = [f"requests {load.outcomes.total()}", f"200 {load.outcomes['200']}", f"others {others or 0}"]
    return " | ".join([*parts, f"connections {load.connections}", f"told Connection: close {load.goodbyes}"])


async def test_b3_rolling_restarts_for_a_minute(database_url: str, tmp_path: Path) -> None:
    """Every request of every restart is answered 200; what was acknowledged is delivered, in order."""
    process = HubProcess(tmp_path, database_url, environment=SETTINGS)
    async with serving(process) as made:
        (service,) = await made.connected("helpdesk")
        load = SteadyLoad(process.port, Wire(made), customers=20)
        posting = asyncio.create_task(load.run())
        rolls = []
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            rolls.append(await process.roll())
        load.stop()
        await posting
        print(f"\nrolling restarts: {len(rolls)} of {min(rolls):.1f} to {max(rolls):.1f} s | {summary(load)}")
        assert set(load.outcomes) == {"200"}, load.outcomes
        await assert_heard(service, load, 120)
        assert await process.end(signal.SIGTERM) == 0


async def test_b3_a_process_is_killed_every_three_seconds(database_url: str, tmp_path: Path) -> None:
    """Requests that the killed one had are cut off; nothing that was acknowledged is lost or out of order."""
    process = HubProcess(tmp_path, database_url, environment=SETTINGS)
    async with serving(process) as made:
        (service,) = await made.connected("helpdesk")
        load = SteadyLoad(process.port, Wire(made), customers=20)
        posting = asyncio.create_task(load.run())
        kills = 0
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            await asyncio.sleep(3)
            if len(workers := process.workers()) == 2:
                os.kill(workers[0], signal.SIGKILL)
                kills += 1
        load.stop()
        await posting
        print(f"\nprocesses killed: {kills} | {summary(load)}")
        assert set(load.outcomes) <= {"200", "ConnectionResetError", "IncompleteReadError"}, load.outcomes
        await assert_heard(service, load, 120)
        assert await process.end(signal.SIGTERM) == 0
