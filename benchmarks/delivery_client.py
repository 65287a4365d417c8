"""What a POST costs: processor time per delivery of aiohttp's client, of httpx and of ours, interleaved in one run.

    python -m benchmarks.delivery_client

The receiver is an aiohttp server in a process of its own; only this process is measured. A bare protocol that does
nothing but send and wait shows what of it is the loop and the kernel.
"""

import asyncio
import itertools
import multiprocessing
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from typing import cast
from urllib.parse import urlsplit

import aiohttp
import httpx
import uvloop
from aiohttp import web
from rich.console import Console
from rich.table import Table

from hub.domain.endpoints import EndpointPolicy
from hub.fanout.client import MAX_ANSWER, DeliveryClient

ROUNDS = 5
COUNT = 2000
TIMEOUT = 15.0
BODY = b'{"type":"message.status","data":"' + b"x" * 665 + b'"}'
HEADERS = {
    "Content-Type": "application/json",
    "webhook-id": "evt_00000000000004d2",
    "webhook-timestamp": "1700000000",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
}

Post = Callable[[str], Awaitable[int | None]]


@asynccontextmanager
async def ours() -> AsyncIterator[Post]:
    """The hub's client."""
    client = DeliveryClient(EndpointPolicy.parse("on"), timeout=TIMEOUT)

    async def post(url: str) -> int | None:
        return (await client.post(url, BODY, HEADERS)).status

    yield post
    await client.close()


@asynccontextmanager
async def with_aiohttp() -> AsyncIterator[Post]:
    """A session set up for deliveries: no cookies, no limit, no redirects, an answer of bounded size."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=10),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"User-Agent": "Partyline/1"},
    ) as session:

        async def post(url: str) -> int:
            async with session.post(url, data=BODY, headers=HEADERS, allow_redirects=False) as response:
                await response.content.read(MAX_ANSWER)
                return response.status

        yield post


@asynccontextmanager
async def with_httpx() -> AsyncIterator[Post]:
    """The same with httpx."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False) as client:

        async def post(url: str) -> int:
            return (await client.post(url, content=BODY, headers=HEADERS)).status_code

        yield post


class _Bare(asyncio.Protocol):
    transport: asyncio.Transport
    waiter: asyncio.Future[int]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.waiter.set_result(int(data[9:12]))


@asynccontextmanager
async def with_nothing() -> AsyncIterator[Post]:
    """The floor: no time-out, no parser, no pool to speak of; what loop and kernel cost."""
    loop = asyncio.get_running_loop()
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    idle: list[_Bare] = []

    async def post(url: str) -> int:
        if not idle:
            _, made = await loop.create_connection(_Bare, "127.0.0.1", urlsplit(url).port or 80)
            idle.append(made)
        bare = idle.pop()
        bare.waiter = loop.create_future()
        head = f"POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n{lines}\r\n"
        bare.transport.write(head.encode() + BODY)
        status = await bare.waiter
        idle.append(bare)
        return status

    yield post
    for bare in idle:
        bare.transport.abort()


CLIENTS = {"aiohttp": with_aiohttp, "httpx": with_httpx, "ours": ours, "bare protocol": with_nothing}


def _receive(parent: Connection) -> None:
    """Answer every POST, until the parent ends."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/hook", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        parent.send(runner.addresses[0][1])
        await asyncio.to_thread(parent.poll, None)
        await runner.cleanup()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


@contextmanager
def _receiver() -> Iterator[int]:
    """A process that receives; gives its port."""
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    child = processes.Process(target=_receive, args=(there,))
    child.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        child.join(10)


async def _post_many(post: Post, url: str, count: int, concurrency: int) -> None:
    turns = iter(range(count))

    async def work() -> None:
        for _ in turns:
            if await post(url) != 200:
                raise RuntimeError("a delivery failed")

    await asyncio.gather(*(work() for _ in range(concurrency)))


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _measure(post: Post, url: str, concurrency: int) -> tuple[float, float]:
    """Microseconds of processor time per POST, and POSTs a second."""
    await _post_many(post, url, concurrency * 4, concurrency)
    spent, started = _spent(), time.perf_counter()
    await _post_many(post, url, COUNT, concurrency)
    return (_spent() - spent) / COUNT * 1e6, COUNT / (time.perf_counter() - started)


async def _rounds(url: str) -> Table:
    table = Table("at once", "client", "µs CPU", "least to most", "POSTs/s", "aiohttp = 1")
    for concurrency in (1, 32):
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
        for _, (name, client) in itertools.product(range(ROUNDS), CLIENTS.items()):
            async with client() as post:
                seen[name].append(await _measure(post, url, concurrency))
        cost = {name: statistics.median(spent for spent, _ in results) for name, results in seen.items()}
        for name, results in seen.items():
            spread = sorted(spent for spent, _ in results)
            speed = statistics.median(speed for _, speed in results)
            table.add_row(
                str(concurrency),
                name,
                f"{cost[name]:.1f}",
                f"{spread[0]:.1f} to {spread[-1]:.1f}",
                f"{speed:,.0f}",
                f"{cost[name] / cost['aiohttp']:.2f}",
            )
        table.add_section()
    return table


def main() -> None:
    """Measure, and print a table."""
    with _receiver() as port, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        table = runner.run(_rounds(f"http://127.0.0.1:{port}/hook"))
    Console().print(table)


if __name__ == "__main__":
    main()
