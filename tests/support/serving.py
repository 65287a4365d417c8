"""The hub as a process of its own, to be killed and started again."""

import asyncio
import os
import signal
import socket
import sys
from collections import defaultdict
from contextlib import suppress
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
        }
        if self.database_url:
            environment["PARTYLINE_DATABASE_URL"] = self.database_url
        with self._log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hub", "serve", cwd=ROOT, env=environment,
                stdout=asyncio.subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        async with aiohttp.ClientSession() as session:
            await until(lambda: self._is_ready(session), 40)

    @property
    def _log(self) -> Path:
        """Where its errors go: a test that fails shows them."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log")

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
    hub = Hub(process.url, ADMIN, cast("Any", None), None)
    return World(hub, simulator, session)


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


async def assert_heard(service: Service, burst: Burst, seconds: float = 30) -> None:
    """Everything acknowledged arrived, in order per conversation; repeats carry the same id and say the same."""
    wanted = set(burst.acknowledged)

    def words_of(me: Any) -> set[str]:
        return {delivery.data["message"]["text"] for delivery in me.of("message.received")}

    await service.endpoint.wait(lambda me: wanted <= words_of(me), seconds)
    first: dict[str, str] = {}
    heard: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for delivery in service.endpoint.of("message.received"):
        words, conversation = delivery.data["message"]["text"], delivery.data["conversation"]
        if delivery.id in first:
            assert first[delivery.id] == words
            continue
        assert words not in first.values(), f"{words} came under two ids"
        first[delivery.id] = words
        heard[conversation["id"]].append((conversation["sequence"], words))
    for entries in heard.values():
        assert [sequence for sequence, _ in entries] == list(range(1, len(entries) + 1))
        numbers = [int(words.partition("/")[2]) for _, words in entries]
        assert numbers == sorted(numbers)
    assert not service.endpoint.refused
