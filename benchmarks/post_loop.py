"""What a delivery costs at the very least: aiohttp's client posting bodies, so many at a time, and nothing else."""

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path

import aiohttp
import uvloop


def main() -> None:
    """Post as many bodies as asked; prints CPU seconds."""
    url, samples, count, concurrency = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps({"cpu": runner.run(_post(url, samples.read_bytes().splitlines(), count, concurrency))}))


async def _post(url: str, bodies: list[bytes], count: int, concurrency: int) -> float:
    left = itertools.islice(itertools.cycle(bodies), count)
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)

    async def post() -> None:
        for body in left:
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()
                assert response.status == 200

    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        before = time.process_time()
        await asyncio.gather(*(post() for _ in range(concurrency)))
        return time.process_time() - before


if __name__ == "__main__":
    main()
