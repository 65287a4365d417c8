"""Loops that are told to end, end: also when something wakes them in the very same moment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hub.domain.endpoints import EndpointPolicy
from hub.fanout.client import DeliveryClient
from hub.fanout.dispatcher import Dispatcher
from hub.store.pool import Database
from hub.store.sealing import Sealer, new_secret_key
from hub.workers.intake import Intake
from hub.workers.sender import Sender

TICKS = 8
"""Steps of the event loop between waking a loop and cancelling it: all moments in which the two can meet."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(lambda: {"dsn": database_url}, size=3)
    await made.open()
    yield made
    await made.close()


async def ends(run: Callable[[], Awaitable[None]], wake: Callable[[], None], ticks: int) -> bool:
    """Whether the loop ends when it is cancelled so many steps after it was woken."""
    task = asyncio.ensure_future(run())
    await asyncio.sleep(0.08)  # it is up, and waits
    wake()
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=3)
    task.cancel()
    await asyncio.wait([task], timeout=3)
    return bool(done)


@pytest.mark.parametrize("ticks", range(TICKS))
async def test_the_dispatcher_ends_although_it_is_woken(database: Database, ticks: int) -> None:
    client = DeliveryClient(EndpointPolicy(), timeout=1)
    dispatcher = Dispatcher(database, Sealer([new_secret_key()]), client, concurrency=4)
    assert await ends(dispatcher.run, dispatcher.refresh, ticks)
    await client.close()


@pytest.mark.parametrize("ticks", range(TICKS))
async def test_the_sender_ends_although_it_is_woken(database: Database, ticks: int) -> None:
    sender = Sender(database, {}, lambda _: None, concurrency=4)
    assert await ends(sender.run, sender.wake, ticks)


@pytest.mark.parametrize("ticks", range(TICKS))
async def test_the_intake_ends_although_it_is_woken(database: Database, ticks: int) -> None:
    intake = Intake(database, lambda _: None, queue_limit=10)
    assert await ends(intake.run, intake._wake.set, ticks)
