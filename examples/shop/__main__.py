"""A demo shop on a tracked site: pages with the tracker, and a backend that tells the hub who ordered.

python -m examples.shop --hub http://127.0.0.1:8080 --key plk_... --tracker http://go.shop.localhost:8080
"""

import argparse
import asyncio
import os
import signal

import aiohttp
from aiohttp import web

from examples.shop.hub import Hub
from examples.shop.shop import Shop


def main() -> None:
    """Run the shop from the command line until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.shop", description="A demo shop on a tracked site.")
    parser.add_argument("--hub", required=True, help="where the hub is, such as http://127.0.0.1:8080")
    parser.add_argument("--key", required=True, help="the shop's API key, with the scope profiles")
    parser.add_argument("--tracker", required=True, help="the hub's LINK_BASE_URL, or its COLLECTOR_BASE_URL if set")
    parser.add_argument(
        "--secret",
        default=os.environ.get("SITE_SECRET", ""),
        help="one of the hub's SITE_SECRETS; $SITE_SECRET unless given",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; a free one unless given")
    options = parser.parse_args()
    try:
        asyncio.run(_serve(options))
    except OSError as error:
        raise SystemExit(f"shop: {error}") from None


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aiohttp.ClientSession() as session:
        shop = Shop(Hub(session, options.hub, options.key), options.tracker, options.secret)
        runner = web.AppRunner(shop.build_app(), shutdown_timeout=2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", options.port).start()
            shop.say(f"the shop is open at http://www.shop.localhost:{runner.addresses[0][1]}")
            await stop.wait()
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    main()
