"""The processes a benchmark talks to: a bare aiohttp handler, pywa in FastAPI, the sink, and real hubs."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from benchmarks import cpu, traffic
from benchmarks.client import Result, closed_loop, run
from benchmarks.database import Database, Server
from benchmarks.sink import Sink
from benchmarks.traffic import Line

ADMIN = "plk_bench-admin-key"
CONNECTIONS = 64
LINK_HOST = "go.bench.example"
REDIRECT_TARGET = "https://www.bench.example/sale?utm_source=sms"
_START_SECONDS = 60


@dataclass(frozen=True)
class Served:
    """A process that listens."""

    port: int
    pid: int

    def cpu(self) -> float:
        """CPU seconds it has used."""
        return cpu.seconds(self.pid)

    def call(self, method: str, path: str, body: Any = None, key: str = ADMIN) -> Any:
        """Call a JSON API."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error
        return json.loads(text) if text else None

    def post(self, requests: list[bytes], connections: int = CONNECTIONS, expected: int = 200) -> Result:
        """Send requests as fast as they are answered; every answer must have the expected status."""
        return run(lambda: closed_loop(self.port, iter(requests), len(requests), connections), expected)


@dataclass(frozen=True)
class Member:
    """A service connected to a line."""

    key: str
    line: Line


class Hub(Served):
    """A hub, `partyline serve` in a process of its own."""

    def open_line(self, index: int = 1) -> Line:
        """Register a number at Meta."""
        line = Line(index)
        senders = [{"medium": "whatsapp", "provider": "meta", "external_id": line.phone_number_id}]
        self.call("POST", "/v1/admin/numbers", {"e164": line.e164, "senders": senders})
        return line

    def connect(self, line: Line, endpoint: str | None = None, **more: Any) -> Member:
        """Register a service, of which `more` is told, and connect it; with no endpoint it would pull."""
        made = self.call("POST", "/v1/admin/services", {"name": "service", "plan": "bundle", **more})
        member = Member(made["api_key"], line)
        self.reconnect(member, endpoint)
        return member

    def reconnect(self, member: Member, endpoint: str | None = None) -> None:
        """Connect it again, from the head of the log on."""
        wanted = {"endpoint_url": endpoint} if endpoint else {}
        self.call("PUT", f"/v1/numbers/{member.line.e164}/connection", wanted, key=member.key)

    def disconnect(self, member: Member) -> None:
        """Take it off; what it has not got is nobody's any more."""
        self.call("DELETE", f"/v1/numbers/{member.line.e164}/connection", key=member.key)

    def meet(self, line: Line, customers: Iterable[int]) -> None:
        """Let each of these customers write, many in one webhook: the hub knows them then."""
        self.post(traffic.batches(line, customers), 8)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def dead_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def _child(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process; ended with the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PARTYLINE_")}
    child = subprocess.Popen([sys.executable, *arguments], env=clean | (env or {}), **options)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def _listening(*arguments: str, port: int, ready: str = "/", env: dict[str, str] | None = None) -> Iterator[Served]:
    with _child(*arguments, env=env) as child:
        _wait(port, ready, child)
        yield Served(port, child.pid)


def _wait(port: int, path: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
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
def bare() -> Iterator[Served]:
    """A bare aiohttp handler: reads the body, answers 200; or 302, to whatever path."""
    port = free_port()
    with _listening("-m", "benchmarks.servers", str(port), port=port) as served:
        yield served


@contextlib.contextmanager
def pywa() -> Iterator[Served]:
    """A bot with pywa in FastAPI, whose handler does nothing."""
    port = free_port()
    with _listening("-m", "benchmarks.pywa_bot", str(port), port=port) as served:
        yield served


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    """A process with endpoints for any number of subscribers."""
    port = free_port()
    with _listening("-m", "benchmarks.sink", str(port), port=port, ready="/counts"):
        yield Sink(port)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Server]:
    """The embedded PostgreSQL, with a template of a migrated database."""
    with _child("-m", "benchmarks.database", str(folder), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        told = child.stdout.readline()
        if not told:
            raise RuntimeError("the embedded PostgreSQL did not start")
        server = Server(Database(**json.loads(told), name="partyline"))
        template = server.make_template()
        command = [sys.executable, "-m", "hub", "migrate"]
        environment = {"PARTYLINE_DATABASE_URL": template.url, "PARTYLINE_DATA_DIR": str(folder)}
        subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
        yield server


@contextlib.contextmanager
def hub(
    database: Database, data_dir: Path, roles: str = "gateway,fanout,sender,janitor", **settings: str
) -> Iterator[Hub]:
    """A real hub in one process. Those over one database share their `data_dir`, for its keys."""
    port = free_port()
    env = {
        "PARTYLINE_PORT": str(port),
        "PARTYLINE_DATABASE_URL": database.url,
        "PARTYLINE_DATA_DIR": str(data_dir / database.name),
        "PARTYLINE_ADMIN_KEY": ADMIN,
        "PARTYLINE_META_APP_SECRETS": traffic.SECRET,
        "PARTYLINE_ALLOW_PRIVATE_ENDPOINTS": "127.0.0.0/8",
        "PARTYLINE_LOG_LEVEL": "error",
        "PARTYLINE_INGEST_QUEUE": "100000",
        "PARTYLINE_REQUESTS_PER_SECOND": "0",
        "PARTYLINE_ROLES": roles,
        "PARTYLINE_LINK_BASE_URL": f"https://{LINK_HOST}",
        "PARTYLINE_SITE_DOMAINS": "bench.example",
        "PARTYLINE_TRACKING_CONSENT": "implied",
        **{f"PARTYLINE_{name.upper()}": value for name, value in settings.items()},
    }
    with _listening("-m", "hub", "serve", port=port, ready="/readyz", env=env) as served:
        yield Hub(served.port, served.pid)


def output(*arguments: str, seconds: float = 120) -> Any:
    """Run a Python module to its end; gives the JSON it prints."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds, check=True)
    return json.loads(done.stdout.splitlines()[-1])


async def _bare(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


_REDIRECT = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
    "Location": REDIRECT_TARGET,
}


async def _bare_redirect(request: web.Request) -> web.Response:
    """What the hub answers to a click, headers and all, and nothing besides."""
    response = web.Response(status=302, headers=_REDIRECT)
    for cookie in ("__Host-hv", "__Secure-hc-x"):
        value = f"{cookie}={'x' * 22}; Max-Age=34560000; Path=/; Secure; HttpOnly; SameSite=Lax"
        response.headers.add("Set-Cookie", value)
    return response


def main() -> None:
    """Serve the bare handler on the port given until SIGTERM."""
    app = web.Application()
    app.router.add_post(traffic.PATH, _bare)
    app.router.add_get("/{token}", _bare_redirect)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, int(sys.argv[1])))


async def _serve(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    main()
