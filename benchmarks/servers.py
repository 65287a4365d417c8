"""The processes a benchmark talks to: a bare aiohttp handler, sinks for webhooks, and a real hub."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

ADMIN = "plk_bench-admin-key"
SECRET = "bench-app-secret"


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _bare(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


class Sink:
    """Endpoints of subscribers: notes when each message arrived, by its text."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[str, float]] = []
        self.count = 0

    async def take(self, request: web.Request) -> web.Response:
        """Answer at once; parse later."""
        body = await request.read()
        self.count += 1
        if b'"message.received"' in body[:200]:
            self.arrivals.append((body.decode(), time.perf_counter()))
        return web.Response()

    async def report(self, _: web.Request) -> web.Response:
        """Seconds from the time written in each message's text to its arrival."""
        latencies = [at - float(json.loads(body)["data"]["message"]["text"].split()[0]) for body, at in self.arrivals]
        return web.json_response({"count": self.count, "latencies": latencies})

    async def reset(self, _: web.Request) -> web.Response:
        """Forget what arrived."""
        self.arrivals, self.count = [], 0
        return web.Response()


def main() -> None:
    """Serve on the port given: `bare` or `sink`."""
    app = web.Application()
    if sys.argv[1] == "bare":
        app.router.add_post("/webhooks/meta", _bare)
    else:
        sink = Sink()
        app.router.add_post("/hook/{n}", sink.take)
        app.router.add_get("/report", sink.report)
        app.router.add_post("/reset", sink.reset)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, int(sys.argv[2])))


async def _serve(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


@contextlib.contextmanager
def process(*command: str, port: int, ready: str = "/", env: dict[str, str] | None = None) -> Iterator[int]:
    """A child process that listens on `port`; ended with the block."""
    child = subprocess.Popen([sys.executable, *command], env=os.environ | (env or {}))
    try:
        _wait(port, ready, child)
        yield child.pid
    finally:
        child.terminate()
        child.wait(20)


def _wait(port: int, path: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise RuntimeError(f"{child.args!r} ended with {child.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).read()
        except urllib.error.HTTPError as error:
            if error.code != 503:
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers on port {port}")


@contextlib.contextmanager
def bare() -> Iterator[int]:
    """A bare aiohttp handler: reads the body, answers 200."""
    port = free_port()
    with process("-m", "benchmarks.servers", "bare", str(port), port=port):
        yield port


@contextlib.contextmanager
def sink() -> Iterator[int]:
    """A process with endpoints for any number of subscribers."""
    port = free_port()
    with process("-m", "benchmarks.servers", "sink", str(port), port=port):
        yield port


@contextlib.contextmanager
def hub(data_dir: Path) -> Iterator[int]:
    """A real hub on the embedded database, as `partyline serve` runs it."""
    port = free_port()
    env = {
        "PARTYLINE_PORT": str(port),
        "PARTYLINE_DATA_DIR": str(data_dir),
        "PARTYLINE_ADMIN_KEY": ADMIN,
        "PARTYLINE_META_APP_SECRETS": SECRET,
        "PARTYLINE_ALLOW_PRIVATE_ENDPOINTS": "127.0.0.0/8",
        "PARTYLINE_LOG_LEVEL": "error",
        "PARTYLINE_INGEST_QUEUE": "100000",
    }
    with process("-m", "hub", "serve", port=port, ready="/readyz", env=env):
        yield port


def call(port: int, method: str, path: str, body: Any = None, key: str = ADMIN) -> Any:
    """Call a JSON API."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


if __name__ == "__main__":
    main()
