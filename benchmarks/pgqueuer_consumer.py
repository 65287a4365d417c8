"""pgqueuer as its documentation shows it, over asyncpg: jobs that do nothing, then jobs that post their payload."""

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.types import QueueExecutionMode

BATCH = 300
"""Jobs it takes at once: with its default of 10 it does a fraction of them a second, and with 1000 no more."""
_ENQUEUE = 5_000


def main() -> None:
    """Consume as many jobs as asked, twice; prints what it took."""
    url, endpoint, samples, count, concurrency = sys.argv[1:]
    bodies = list(itertools.islice(itertools.cycle(Path(samples).read_bytes().splitlines()), int(count)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_measure(url, endpoint, bodies, int(concurrency)))))


async def _measure(url: str, endpoint: str, bodies: list[bytes], concurrency: int) -> dict[str, float]:
    conn = await asyncpg.connect(url)
    connector = aiohttp.TCPConnector(limit=concurrency)

    async def nothing(_: Job) -> None:
        pass

    async def post(job: Job) -> None:
        async with session.post(endpoint, data=job.payload, headers={"Content-Type": "application/json"}) as response:
            await response.read()
            assert response.status == 200

    queries = PgQueuer.from_asyncpg_connection(conn).qm.queries
    if not await queries.has_table("pgqueuer"):
        await queries.install()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        idle_seconds, _ = await _consume(conn, "nothing", nothing, bodies)
        _, cpu = await _consume(conn, "post", post, bodies)
    await conn.close()
    return {"idle_seconds": idle_seconds, "cpu": cpu}


async def _consume(
    conn: asyncpg.Connection, name: str, job: Callable[[Job], Awaitable[None]], bodies: list[bytes]
) -> tuple[float, float]:
    """Enqueue, then consume until the queue is empty; gives seconds and CPU seconds of consuming."""
    consumer = PgQueuer.from_asyncpg_connection(conn)
    consumer.entrypoint(name)(job)
    for part in range(0, len(bodies), _ENQUEUE):
        payloads = bodies[part : part + _ENQUEUE]
        await consumer.qm.queries.enqueue([name] * len(payloads), payloads, [0] * len(payloads))
    started, before = time.perf_counter(), time.process_time()
    await consumer.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
    return time.perf_counter() - started, time.process_time() - before


if __name__ == "__main__":
    main()
