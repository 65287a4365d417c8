"""The hub, killed in mid-burst: what it acknowledged is delivered (rules B3, G1, G2). The long form is in `soak`."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from providers.simulator import Simulator
from tests.support.cut import line_to
from tests.support.serving import Burst, HubProcess, assert_heard, make_simulator, register, remote_world
from tests.support.wire import Wire, ask, sms, until
from tests.support.world import World


@dataclass
class Killable:
    process: HubProcess
    simulator: Simulator
    world: World

    async def restart(self) -> None:
        await self.process.end(signal.SIGKILL)
        await self.process.start(self.simulator)


@pytest.fixture
async def hub(database_url: str, tmp_path: Path) -> AsyncIterator[Killable]:
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(make_simulator())
        process = HubProcess(tmp_path, database_url)
        stack.push_async_callback(process.end)
        await process.start(simulator)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        made = remote_world(process, simulator, session)
        await register(made)
        yield Killable(process, simulator, made)
        for subscriber in made.subscribers:
            await subscriber.stop()


@pytest.mark.soak
async def test_b3_everything_acknowledged_before_a_kill_is_delivered_after_it(hub: Killable, database_url: str) -> None:
    services = await hub.world.connected("helpdesk", "crm", "marketing")
    burst = Burst(Wire(hub.world), 300)
    posting = asyncio.create_task(burst.run())
    await burst.reaches(60)
    await hub.restart()
    await burst.reaches(180)
    await hub.restart()
    await posting
    assert len(burst.acknowledged) >= 225  # all of Meta's
    for service in services:
        await assert_heard(service, burst)
    stored = await ask(database_url, "select count(*) from event where type = 'message.received'")
    assert len(burst.acknowledged) <= stored <= 300
    assert await ask(database_url, "select count(*) from contact") <= 20
    assert await hub.process.end(signal.SIGTERM) == 0


@pytest.mark.soak
async def test_b3_a_kill_does_not_empty_the_spool(database_url: str, tmp_path: Path) -> None:
    """The database is away, Twilio is answered 200, and then the hub is killed."""
    async with AsyncExitStack() as stack:
        url, line = await stack.enter_async_context(line_to(database_url))
        simulator = await stack.enter_async_context(make_simulator())
        process = HubProcess(tmp_path, url)
        stack.push_async_callback(process.end)
        await process.start(simulator)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        made = remote_world(process, simulator, session)
        await register(made)
        await line.down()
        for n in range(20):
            assert (await Wire(made).twilio(sms(f"{n}"))).status == 200
        await process.end(signal.SIGKILL)
        await line.up()
        await process.start(simulator)
        stored = "select array_agg(content::json ->> 'text' order by sequence) from message"

        async def are_there() -> bool:
            return bool(await ask(database_url, stored) == [str(n) for n in range(20)])

        await until(are_there)
