"""The engine under load while its parts are killed, stopped and abused. `make soak` prints a table of it."""

import asyncio
import signal
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web

from tests.soak.trial import every, trial
from tests.support.subscriber import Subscriber
from tests.support.wire import ask, until

pytestmark = pytest.mark.soak

RATE = 150.0
"""Messages a second; services, signatures and load share the test's own core."""


async def test_a_dispatcher_is_killed_every_two_seconds(database_url: str, tmp_path: Path) -> None:
    async with trial(database_url, tmp_path, dispatchers=3) as made:
        services = await made.world.connected("helpdesk", "crm", "marketing")
        posting = asyncio.create_task(made.load(100, RATE))

        async def kill(turn: int) -> None:
            victim = made.dispatchers[turn % 3]
            await victim.end(signal.SIGKILL)
            await victim.start(made.simulator)

        await every(2, 30, kill)
        await posting
        account = await made.account("dispatcher killed every 2 s", services)
        account.assert_whole()
        # What one kill may repeat: a third of the deliveries of one flush, and what was in flight.
        assert account.duplicate_share < 0.06


async def test_a_dispatcher_that_was_stopped_past_its_lease_does_no_harm(database_url: str, tmp_path: Path) -> None:
    """SIGSTOP for longer than its lease: the others take over; it wakes and finds that it owns nothing."""
    async with trial(database_url, tmp_path, dispatchers=3, delivery_timeout="2") as made:
        services = await made.world.connected("helpdesk", "crm", "marketing")
        posting = asyncio.create_task(made.load(90, RATE))

        async def stop(turn: int) -> None:
            victim = made.dispatchers[turn % 3]
            victim.tell(signal.SIGSTOP)
            await asyncio.sleep(10)  # the lease is 2 + 5 seconds
            owners = "select count(distinct owner)::int from shard_lease where owner is not null"
            assert await ask(database_url, owners) == 2
            victim.tell(signal.SIGCONT)
            await until(lambda: three(database_url), 15)

        await every(4, 5, stop)
        await posting
        account = await made.account("dispatcher stopped past its lease", services)
        account.assert_whole()


async def three(database_url: str) -> bool:
    return bool(await ask(database_url, "select count(distinct owner) = 3 from shard_lease where owner is not null"))


async def test_gateways_are_killed_in_turn(database_url: str, tmp_path: Path) -> None:
    async with trial(database_url, tmp_path, gateways=2) as made:
        services = await made.world.connected("helpdesk", "crm", "marketing")
        posting = asyncio.create_task(made.load(60, RATE))

        async def kill(turn: int) -> None:
            victim = made.gateways[turn % 2]
            await victim.end(signal.SIGKILL)
            await victim.start(made.simulator)

        await every(3, 12, kill)
        await posting
        account = await made.account("gateway killed every 3 s", services)
        account.assert_whole()


async def test_bad_subscribers_delay_nobody(database_url: str, tmp_path: Path) -> None:
    """One dead, one slow, one flapping, one that always says 429, one with a poisoned conversation, one that answers
    10 MB: the healthy ones hear everything as fast as without them.
    """
    async with trial(database_url, tmp_path) as made:
        healthy = await made.world.connected("helpdesk", "crm")
        await made.load(30, RATE / 2)
        before = await made.account("two healthy services alone", healthy)
        before.assert_whole()
        await misbehave(made.world)
        for service in healthy:
            service.endpoint.deliveries.clear()
        made.acknowledged.clear()
        made.sent = 0
        await made.load(90, RATE / 2)
        during = await made.account("the same beside six bad ones", healthy)
        during.assert_whole()
        assert during.percentile(0.99) <= max(4 * before.percentile(0.99), 250)


async def misbehave(world: object) -> None:
    """Six services as operators know them."""
    names = ("dead", "slow", "flapping", "limited", "poisoned", "large")
    services = {name: await world.service(name) for name in names}  # type: ignore[attr-defined]
    turns = {"n": 0}

    def flap(_: object) -> int:
        turns["n"] += 1
        return 200 if turns["n"] // 50 % 2 else 500

    services["flapping"].endpoint.answer = flap
    services["limited"].endpoint.answer = lambda _: 429
    services["poisoned"].endpoint.answer = lambda d: (
        422 if d.data.get("message", {}).get("text", "").startswith("7/") else 200
    )
    services["large"].endpoint.body = b"x" * 10_000_000
    for service in services.values():
        await service.connect()
    await services["dead"].endpoint.stop()
    await slow_down(services["slow"].endpoint)


async def slow_down(endpoint: Subscriber) -> None:
    """From now on every answer takes nine seconds."""
    port = int(endpoint.url.rsplit(":", 1)[1].split("/")[0])
    await endpoint.stop()

    async def wait(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(9)
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", wait)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    endpoint._runner = runner


async def test_a_transaction_held_open_elsewhere_slows_nothing(database_url: str, tmp_path: Path) -> None:
    """Somebody's forgotten transaction keeps old row versions alive for minutes: not beyond twice the latency."""
    async with trial(database_url, tmp_path) as made:
        services = await made.world.connected("helpdesk", "crm", "marketing")
        await made.load(30, RATE)
        before = await made.account("nobody holds a transaction", services)
        other = await asyncpg.connect(database_url)
        try:
            async with other.transaction(isolation="repeatable_read"):
                await other.fetchval("select count(*) from conversation")
                for service in services:
                    service.endpoint.deliveries.clear()
                made.acknowledged.clear()
                made.sent = 0
                await made.load(150, RATE)
                during = await made.account("a transaction is held for 150 s", services)
        finally:
            await other.close()
        before.assert_whole()
        during.assert_whole()
        assert during.percentile(0.5) <= 2 * before.percentile(0.5) + 2
