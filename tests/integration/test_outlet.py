"""Deliveries of one subscription: nothing is left lying, nothing goes out after the end."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from hub.actions.audience import Viewer
from hub.domain.events import Event
from hub.domain.ids import shard_of
from hub.fanout.client import Answer, DeliveryClient
from hub.fanout.outlet import Outlet, Report
from hub.fanout.receivers import Receiver
from hub.store.deliveries import Progress

CHANNEL = uuid4()


class Endpoint(DeliveryClient):
    """Answers at once, or when it is let."""

    def __init__(self) -> None:
        self.posts: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        self.waiting += 1
        await self.gate.wait()
        self.posts.append(headers["webhook-id"])
        return Answer(200)


def event(number: int, lane: UUID, prev: int) -> Event:
    return Event(
        number,
        shard_of(lane),
        prev,
        "message.received",
        datetime.now(UTC),
        CHANNEL,
        lane,
        number,
        None,
        None,
        None,
        "{}",
    )


def outlet(endpoint: Endpoint, ready: asyncio.Event, concurrency: int) -> Outlet:
    receiver = Receiver(uuid4(), Viewer(CHANNEL, uuid4(), None, "masked", False, 1), "http://x", (b"key",), 60.0, 0, False)
    progress = Progress(dict.fromkeys(range(64), 0), set())
    return Outlet(receiver, progress, endpoint, lambda *_: b"{}", ready, Report(), concurrency=concurrency)


@pytest.mark.parametrize("workers", [1, 32])
async def test_g2_an_event_that_comes_as_the_last_worker_ends_is_delivered(workers: int) -> None:
    """All workers have found nothing more to do, and their tasks are not over yet: the next event needs a new one."""
    endpoint, ready = Endpoint(), asyncio.Event()
    ready.set()
    endpoint.gate.clear()
    made = outlet(endpoint, ready, workers)
    for number in range(workers):
        made.take(event(number + 1, uuid4(), 0))
    async with asyncio.timeout(2):
        while endpoint.waiting < workers:
            await asyncio.sleep(0)
    endpoint.gate.set()  # wakes the workers in the next turn of the loop; the event comes in that turn, after them
    asyncio.get_running_loop().call_soon(lambda: made.take(event(workers + 1, uuid4(), 0)))
    async with asyncio.timeout(2):
        while len(endpoint.posts) <= workers:
            await asyncio.sleep(0.001)
    assert made.undone == 0


async def test_nothing_is_started_once_the_end_began() -> None:
    """Who waits for a new roster when the dispatcher stops must not post with the old one."""
    endpoint, ready = Endpoint(), asyncio.Event()
    made = outlet(endpoint, ready, 4)
    made.take(event(1, uuid4(), 0))
    await asyncio.sleep(0)
    made.start_draining()
    ready.set()
    await made.drain()
    assert endpoint.posts == []
    await made.stop()
