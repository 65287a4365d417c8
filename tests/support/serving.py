"""The hub as a process of its own, to be killed and started again."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp

from hub.app import Hub
from providers.simulator import Number, Simulator
from tests.support.wire import Wire, envelope, sms, text, until, value
from tests.support.world import ADMIN, NUMBER, PHONE_NUMBER_ID, Service, World

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class HubProcess:
    """`python -m hub serve` over a data directory, on a port that stays the same."""

    data_dir: Path
    database_url: str | None = None
    port: int = field(default_factory=free_port)
    arguments: tuple[str, ...] = ()
    """More words for `serve`."""
    environment: dict[str, str] = field(default_factory=dict)
    """More settings, or other ones, by their whole names."""
    _process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, simulator: Simulator) -> None:
        """Start it and wait until it is ready."""
        environment = {name: part for name, part in os.environ.items() if not name.startswith("PARTYLINE_")}
        environment |= {
            "PARTYLINE_PORT": str(self.port),
            "PARTYLINE_DATA_DIR": str(self.data_dir),
            "PARTYLINE_ADMIN_KEY": ADMIN,
            "PARTYLINE_PUBLIC_URL": "https://hub.example.com",
            "PARTYLINE_META_APP_SECRETS": ",".join(simulator.meta_app_secrets),
            "PARTYLINE_META_ACCESS_TOKEN": simulator.meta_access_token,
            "PARTYLINE_META_API_URL": simulator.url,
            "PARTYLINE_TWILIO_ACCOUNT_SID": simulator.twilio_account_sid,
            "PARTYLINE_TWILIO_AUTH_TOKEN": simulator.twilio_auth_token,
            "PARTYLINE_TWILIO_API_URL": simulator.url,
            "PARTYLINE_ALLOW_PRIVATE_ENDPOINTS": "127.0.0.0/8",
            "PARTYLINE_LOG_LEVEL": "error",
            "PARTYLINE_REQUESTS_PER_SECOND": "0",
        }
        if self.database_url:
            environment["PARTYLINE_DATABASE_URL"] = self.database_url
        environment |= self.environment
        with self._log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hub", "serve", *self.arguments, cwd=ROOT, env=environment,
                stdout=asyncio.subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        async with aiohttp.ClientSession() as session:
            await until(lambda: self._is_ready(session), 40)

    @property
    def _log(self) -> Path:
        """Where its errors go: a test that fails shows them."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log")

    def says(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log about an event; it must log at this level."""
        lines = [line for line in self._log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in map(json.loads, lines) if line["event"] == event]

    def workers(self) -> list[int]:
        """Pids of the processes it runs now, if it runs several, the oldest first."""
        ended = {line["pid"] for line in self.says("worker.ended")}
        return [line["pid"] for line in self.says("worker.started") if line["pid"] not in ended]

    async def roll(self, seconds: float = 40) -> float:
        """Have all its processes replaced; gives the seconds it took."""
        before = len(self.says("processes.rolled"))
        self.tell(signal.SIGHUP)
        await until(lambda: len(self.says("processes.rolled")) > before or self.says("processes.roll_failed"), seconds)
        assert not self.says("processes.roll_failed"), self._log.read_text()
        return float(self.says("processes.rolled")[-1]["seconds"])

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self._log.read_text()
        with suppress(aiohttp.ClientError):
            async with session.get(f"{self.url}/readyz") as answer:
                return answer.status == 200
        return False

    async def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send this very process a signal, and wait until it is gone."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return 0
        process.send_signal(number)
        return await process.wait()


def remote_world(process: HubProcess, simulator: Simulator, session: aiohttp.ClientSession) -> World:
    """The tests' usual calls, to a hub in a process of its own."""
    unknown = cast("Any", None)
    hub = Hub(process.url, ADMIN, unknown, None, unknown, unknown)
    return World(hub, simulator, session)


@asynccontextmanager
async def serving(process: HubProcess) -> AsyncIterator[World]:
    """This hub, ready, with its number; killed afterwards if it still runs."""
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(make_simulator())
        stack.push_async_callback(process.end)
        await process.start(simulator)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        made = remote_world(process, simulator, session)
        await register(made)
        yield made
        for subscriber in made.subscribers:
            await subscriber.stop()


def make_simulator() -> Simulator:
    """Only for its secrets and its API: webhooks are posted by the burst."""
    return Simulator(numbers=[Number(NUMBER, PHONE_NUMBER_ID)], public_url="https://hub.example.com")


async def register(made: World) -> None:
    """The number, with both senders."""
    senders = [
        {"medium": "whatsapp", "provider": "meta", "external_id": PHONE_NUMBER_ID},
        {"medium": "sms", "provider": "twilio", "external_id": NUMBER},
    ]
    answer = await made.call("POST", "/v1/admin/numbers", {"e164": NUMBER, "senders": senders})
    assert answer.status == 201, answer


@dataclass
class Burst:
    """Customers who write one message after the other, and what the hub acknowledged of it.

    Meta posts again until it is answered 200; Twilio posts once, so that what met a dead hub is nobody's promise.
    """

    wire: Wire
    messages: int
    customers: int = 20
    acknowledged: list[str] = field(default_factory=list)
    posted: int = 0

    async def run(self) -> None:
        """Post all of it."""
        each = self.messages // self.customers
        await asyncio.gather(*(self._write(customer, each) for customer in range(self.customers)))

    async def _write(self, customer: int, count: int) -> None:
        is_meta = customer % 4 != 3
        for n in range(count):
            words = f"{customer}/{n}"
            self.posted += 1
            if is_meta:
                body = envelope(value([text(words, f"4915100000{customer:03d}")]))
                await until(lambda body=body: self._is_taken(self.wire.meta(body)), 60)
            elif not await self._is_taken(self.wire.twilio(sms(words, f"+4917100000{customer:03d}"))):
                await asyncio.sleep(0.02)
                continue
            self.acknowledged.append(words)

    async def _is_taken(self, post: Any) -> bool:
        try:
            return bool((await post).status == 200)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return False

    async def reaches(self, count: int) -> None:
        """Wait until so many are acknowledged."""
        await until(lambda: len(self.acknowledged) >= count, 60)


@dataclass
class SteadyLoad:
    """Customers who go on writing until told to stop, over bare sockets, and what became of each single request.

    Half of them keep their connection for as long as the hub does, half open one for each message. Nothing is tried
    again: whatever is not answered 200 is counted under its name.
    """

    port: int
    wire: Wire
    customers: int = 10
    pause: float = 0.015
    """Seconds between a customer's messages."""
    outcomes: Counter[str] = field(default_factory=Counter)
    acknowledged: list[str] = field(default_factory=list)
    goodbyes: int = 0
    """Answers that told a client to open another connection."""
    connections: int = 0
    _is_over: bool = False

    async def run(self) -> None:
        """Post until `stop`."""
        await asyncio.gather(*(self._write(customer) for customer in range(self.customers)))

    def stop(self) -> None:
        """What is under way is still answered."""
        self._is_over = True

    async def reaches(self, count: int) -> None:
        """Wait until so many are answered."""
        await until(lambda: self.outcomes.total() >= count, 60)

    async def _write(self, customer: int) -> None:
        link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        n = 0
        while not self._is_over:
            words, n = f"steady {customer}/{n}", n + 1
            body = json.dumps(envelope(value([text(words, f"4915200000{customer:03d}")]))).encode()
            try:
                async with asyncio.timeout(20):
                    if link is None:
                        link = await asyncio.open_connection("127.0.0.1", self.port)
                        self.connections += 1
                    status, is_last = await self._post(*link, body)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                status, is_last = type(error).__name__, True
            self.outcomes[status] += 1
            if status == "200":
                self.acknowledged.append(words)
                self.goodbyes += is_last
            if is_last or customer % 2:
                link = _hang_up(link)
            await asyncio.sleep(self.pause)
        _hang_up(link)

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[str, bool]:
        """One request; gives the answer's status and whether it is the last on this connection."""
        head = f"POST /webhooks/meta HTTP/1.1\r\nHost: hub\r\nContent-Length: {len(body)}\r\n"
        head += f"Content-Type: application/json\r\nX-Hub-Signature-256: {self.wire.meta_signature(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): field.strip() for name, _, field in (line.partition(":") for line in lines)}
        await reader.readexactly(int(fields["content-length"]))
        return first.split()[1], fields.get("connection") == "close"


def _hang_up(link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if link:
        link[1].close()


async def assert_heard(service: Service, burst: Burst | SteadyLoad, seconds: float = 30) -> None:
    """Everything acknowledged arrived, in order per conversation; repeats carry the same id and say the same."""
    wanted = set(burst.acknowledged)

    def words_of(me: Any) -> set[str]:
        return {delivery.data["message"]["text"] for delivery in me.of("message.received")}

    await service.endpoint.wait(lambda me: wanted <= words_of(me), seconds)
    first: dict[str, str] = {}
    seen: set[str] = set()
    heard: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for delivery in service.endpoint.of("message.received"):
        words, conversation = delivery.data["message"]["text"], delivery.data["conversation"]
        if delivery.id in first:
            assert first[delivery.id] == words
            continue
        assert words not in seen, f"{words} came under two ids"
        first[delivery.id] = words
        seen.add(words)
        heard[conversation["id"]].append((conversation["sequence"], words))
    for entries in heard.values():
        assert [sequence for sequence, _ in entries] == list(range(1, len(entries) + 1))
        numbers = [int(words.partition("/")[2]) for _, words in entries]
        assert numbers == sorted(numbers)
    assert not service.endpoint.refused
