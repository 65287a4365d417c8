"""A trial: a hub of several processes under a steady load, what is done to it meanwhile, and the account of it."""

import asyncio
import base64
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from providers.simulator import Simulator
from tests.support.serving import HubProcess, make_simulator, register, remote_world
from tests.support.subscriber import Delivery
from tests.support.wire import Wire, envelope, text, value
from tests.support.world import Service, World

KEY = base64.b64encode(os.urandom(32)).decode()
"""The key all processes encrypt secrets with."""
ROWS: list[tuple[str, ...]] = []
COLUMNS = ("trial", "sent", "acknowledged", "delivered", "lost", "reordered", "duplicates", "p50", "p99 healthy")


@dataclass
class Trial:
    """Processes, services, and the load's own books."""

    world: World
    simulator: Simulator
    gateways: list[HubProcess]
    dispatchers: list[HubProcess]
    sent: int = 0
    acknowledged: dict[str, float] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    async def load(self, seconds: float, rate: float, customers: int = 60) -> None:
        """Customers write in turn, at a steady rate; Meta posts again until it is answered 200."""
        started, due = time.perf_counter(), 0.0
        tasks: set[asyncio.Task[None]] = set()
        locks = [asyncio.Lock() for _ in range(customers)]
        while due < seconds:
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            due += 1 / rate
            n = next(self._ids)
            task = asyncio.create_task(self._write(n, n % customers, locks[n % customers]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _write(self, n: int, customer: int, lock: asyncio.Lock) -> None:
        """One message; a customer's next is written once this one is taken."""
        async with lock:
            self.sent += 1
            words = f"{customer}/{n}"
            body = envelope(value([text(words, f"4915100000{customer:03d}")]))
            asked_at = time.perf_counter()
            for turn in itertools.count():
                gateway = self.gateways[(n + turn) % len(self.gateways)]
                if await self._is_taken(gateway, body):
                    break
                await asyncio.sleep(0.05)
            self.acknowledged[words] = asked_at

    async def _is_taken(self, gateway: HubProcess, body: Any) -> bool:
        world = World(remote_world(gateway, self.simulator, self.world.session).hub, self.simulator, self.world.session)
        try:
            async with asyncio.timeout(15):
                status = (await Wire(world).meta(body)).status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.refused[type(error).__name__] += 1
            return False
        if status != 200:
            self.refused[str(status)] += 1
        return status == 200

    async def account(self, name: str, services: list[Service], seconds: float = 60) -> "Account":
        """Wait until all that was acknowledged has arrived, and add it up over these services."""
        wanted = self.acknowledged.keys()
        for service in services:
            with suppress(TimeoutError):
                await service.endpoint.wait(lambda me: wanted <= _texts(me.deliveries), seconds)
        account = Account.of(self.acknowledged, [service.endpoint.deliveries for service in services])
        assert not any(service.endpoint.refused for service in services)
        ROWS.append(
            (
                name, f"{self.sent:,}", f"{len(wanted):,}", f"{account.delivered:,}", str(account.lost),
                str(account.reordered), f"{account.duplicates:,} ({account.duplicate_share:.2%})",
                f"{account.percentile(0.5):.0f} ms", f"{account.percentile(0.99):.0f} ms",
            )
        )  # fmt: skip
        return account


def _texts(deliveries: list[Delivery]) -> set[str]:
    return {d.data["message"]["text"] for d in deliveries if d.type == "message.received"}


@dataclass
class Account:
    """What a trial came to."""

    delivered: int = 0
    lost: int = 0
    reordered: int = 0
    duplicates: int = 0
    latencies: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, acknowledged: dict[str, float], heard: list[list[Delivery]]) -> "Account":
        account = cls()
        for deliveries in heard:
            account._add(acknowledged, [d for d in deliveries if d.type == "message.received"])
        account.latencies.sort()
        return account

    def _add(self, acknowledged: dict[str, float], deliveries: list[Delivery]) -> None:
        ids: dict[str, str] = {}
        last: dict[str, int] = {}
        for delivery in deliveries:
            words, conversation = delivery.data["message"]["text"], delivery.data["conversation"]
            if delivery.id in ids:
                assert ids[delivery.id] == words
                self.duplicates += 1
                continue
            ids[delivery.id] = words
            sequence = conversation["sequence"]
            self.reordered += sequence != last.get(conversation["id"], sequence - 1) + 1
            last[conversation["id"]] = sequence
            if words in acknowledged:
                self.latencies.append(delivery.at - acknowledged[words])
        heard = set(ids.values())
        assert len(heard) == len(ids), "one message came under two ids"
        self.delivered += len(ids)
        self.lost += len(acknowledged.keys() - heard)

    @property
    def duplicate_share(self) -> float:
        """Repeats per delivery."""
        return self.duplicates / max(self.delivered, 1)

    def percentile(self, part: float) -> float:
        """Of the time from the provider's first POST to the receipt, in milliseconds."""
        if not self.latencies:
            return float("nan")
        return self.latencies[min(int(len(self.latencies) * part), len(self.latencies) - 1)] * 1000

    def assert_whole(self) -> None:
        """Nothing lost, nothing out of order."""
        assert (self.lost, self.reordered) == (0, 0)


@asynccontextmanager
async def trial(
    database_url: str, folder: Path, *, gateways: int = 1, dispatchers: int = 0, **settings: str
) -> AsyncIterator[Trial]:
    """Gateways (which do everything else too) and dispatchers on one database; no dispatchers: the gateways deliver."""
    more = {"PARTYLINE_SECRET_KEYS": KEY, **{f"PARTYLINE_{name.upper()}": value for name, value in settings.items()}}
    front = "gateway,sender,janitor" if dispatchers else "gateway,fanout,sender,janitor"
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(make_simulator())
        processes = [
            HubProcess(folder / f"{n}", database_url, environment=more | {"PARTYLINE_ROLES": roles})
            for n, roles in enumerate([front] * gateways + ["fanout"] * dispatchers)
        ]
        for process in processes:
            process.data_dir.mkdir(parents=True)
            stack.push_async_callback(process.end)
        await asyncio.gather(*(process.start(simulator) for process in processes))
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        world = remote_world(processes[0], simulator, session)
        await register(world)
        yield Trial(world, simulator, processes[:gateways], processes[gateways:])
        for subscriber in world.subscribers:
            await subscriber.stop()


async def every(seconds: float, turns: int, act: Callable[[int], Any]) -> None:
    """Do something again and again."""
    for turn in range(turns):
        await asyncio.sleep(seconds)
        await act(turn)


def print_table() -> None:
    """All trials so far."""
    table = Table(*COLUMNS, title="Trials: what was sent, and what came of it at the healthy services")
    for row in ROWS:
        table.add_row(*row)
    Console(width=150).print(table)
