"""A day in fast motion: both providers, every kind of item, repeats, disorder, kills; and then the books are balanced.

`DAY_ITEMS` makes it smaller: 1,000 items take about 20 seconds.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import pytest
from rich.console import Console

from hub.domain.reconciliation import GRACE
from hub.store.embedded import DATABASE, USER
from providers.simulator import Number, Simulator, StatusPlan, people
from providers.simulator.day import Day
from providers.simulator.traffic import Item, disturbed, packed
from tests.soak.day_books import Books, Sheet
from tests.soak.day_parts import Agents, Ear, Load
from tests.support.serving import HubProcess, remote_world
from tests.support.subscriber import Delivery, Subscriber
from tests.support.wire import until
from tests.support.world import NUMBER, PHONE_NUMBER_ID, Service, World

pytestmark = pytest.mark.soak

ITEMS: Final = int(os.environ.get("DAY_ITEMS", "50000"))
CUSTOMERS: Final = max(100, ITEMS // 25)
REPLY_EACH: Final = 40
"""One in so many texts is answered by an agent."""
RATE: Final = float(os.environ.get("DAY_RATE", "400"))
"""Items a second, at most."""
PATIENCE: Final = 45 + ITEMS / 250
"""Seconds to wait for what must come."""
OTHER: Final = Number("+15550002222")
FIRST: Final = Number(NUMBER, PHONE_NUMBER_ID)
SETTINGS: Final = {
    "PARTYLINE_AGENT_PER_MINUTE": "0",
    "PARTYLINE_SERVICE_PER_MINUTE": "0",
    "PARTYLINE_SMS_RATE": "50",
    "PARTYLINE_RECONCILE_INTERVAL": "60",
    "PARTYLINE_MEDIA_CONCURRENCY": "8",
    "PARTYLINE_HEALTH_INTERVAL": "0",
}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, as root too."""
    folder = Path(tempfile.mkdtemp(prefix="partyline-day-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def database(data_dir: Path) -> AsyncIterator[asyncpg.Connection]:
    """The database that the hub itself runs."""
    lines = (data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()
    conn = await asyncpg.connect(host=lines[4], port=int(lines[3]), user=USER, database=DATABASE)
    try:
        yield conn
    finally:
        await conn.close()


async def kill_database(data_dir: Path) -> None:
    """Without a word; the hub starts it again."""
    path = data_dir / "postgres" / "cluster" / "postmaster.pid"

    def owner() -> int:
        with suppress(FileNotFoundError):  # the next one removes it first
            return int(path.read_text().split("\n", 1)[0] or 0)
        return 0

    victim = owner()
    os.kill(victim, signal.SIGKILL)
    await until(lambda: owner() not in {0, victim}, 40)


async def register(world: World) -> None:
    """Two numbers: one at Meta and Twilio, one at Twilio alone."""
    sms = {"medium": "sms", "provider": "twilio"}
    first = [{"medium": "whatsapp", "provider": "meta", "external_id": PHONE_NUMBER_ID}, sms | {"external_id": NUMBER}]
    second = [
        {"medium": "whatsapp", "provider": "twilio", "external_id": OTHER.e164},
        sms | {"external_id": OTHER.e164},
    ]
    for e164, senders in ((NUMBER, first), (OTHER.e164, second)):
        answer = await world.call("POST", "/v1/admin/numbers", {"e164": e164, "senders": senders})
        assert answer.status == 201, answer


async def test_a_day_in_fast_motion(data_dir: Path) -> None:
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            Simulator(numbers=[FIRST, OTHER], public_url="https://hub.example.com", status_plan=StatusPlan())
        )
        simulator.poster.meta_tries = 10_000
        process = HubProcess(data_dir, environment=dict(SETTINGS))
        await process.start(simulator)
        stack.push_async_callback(process.end, signal.SIGTERM)
        simulator.hub_url = process.url
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)))
        world = remote_world(process, simulator, session)
        await register(world)
        services = [await world.service(name) for name in ("helpdesk", "crm")]
        stack.push_async_callback(stop, world.subscribers)
        ears = await listen(services)

        items = make_day(simulator)
        texts = [item.id for item in items if item.kind == "text" and item.text and item.text != "are you there?"]
        agents = Agents(services[0], set(texts[::REPLY_EACH]))
        ears[0].on_message = agents.hear
        webhooks = list(packed(2, disturbed(3, items)))
        load = Load(simulator, webhooks, RATE)
        began = time.monotonic()
        posting = asyncio.create_task(load.run())
        stack.callback(posting.cancel)
        for share, kill in kills(process, simulator, data_dir):
            await load.reaches(share)
            await kill()
        await posting
        posted = time.monotonic() - began

        books = Books.of(items)
        await reconcile(world)
        await until(lambda: agents.wanted <= ears[0].received, PATIENCE)
        await agents.settle()
        with suppress(TimeoutError):  # the account tells better what is missing
            await settle(simulator, data_dir)
            await reconcile(world)
            await poll(partial(heard_all, data_dir, ears))

        sheet = await balance(data_dir, books, simulator, agents, ears)
        total = sum(len(item.parts) for hook in webhooks for item in hook.items)
        sheet.show(
            f"A day: {total:,} items from {len(books.contacts):,} customers in {posted:.0f} s "
            f"({total / posted:.0f}/s), {time.monotonic() - began:.0f} s in all"
        )
        repeats = sum(item.is_repeat for hook in webhooks for item in hook.items)
        Console(width=110).print(
            f"repeats posted {repeats:,}; Twilio's webhooks nobody took {load.lost:,}, "
            f"messages reconciled {ears[0].reconciled:,}; deliveries repeated {sum(ear.repeats for ear in ears):,}"
        )
        assert not agents.refused, agents.refused[:3]
        assert not any(endpoint.refused for endpoint in world.subscribers)
        assert not sheet.differences, sheet.differences


async def stop(endpoints: Sequence[Subscriber]) -> None:
    """Once nothing delivers to them any more."""
    for endpoint in endpoints:
        await endpoint.stop()


def make_day(simulator: Simulator) -> list[Item]:
    """The items, without what the statuses of answers will add."""
    kinds = ("image/jpeg", "image/png", "application/pdf")
    files = [
        simulator.shelf.add(bytes([place % 256]) * (2_000 + place), kinds[place % 3], f"file{place}.bin")
        for place in range(60)
    ]
    day = Day(
        seed=7,
        people=people(7, CUSTOMERS),
        over_meta=FIRST,
        over_twilio=OTHER,
        files=files,
        account_sid=simulator.twilio_account_sid,
        api_url=simulator.url,
        start=time.time() - 36_000,
        seconds=35_000,
    )
    return day.items(ITEMS)


def kills(process: HubProcess, simulator: Simulator, data_dir: Path) -> list[tuple[float, Callable[[], Any]]]:
    """Two of the hub and one of the database; in a small day the hub's only."""

    async def hub() -> None:
        await process.end(signal.SIGKILL)
        await process.start(simulator)

    async def postgres() -> None:
        await kill_database(data_dir)

    return [(0.5, hub)] if ITEMS < 5_000 else [(0.2, hub), (0.45, postgres), (0.7, hub)]


async def listen(services: Sequence[Service]) -> list[Ear]:
    """Both services hear both numbers, in full; each number at an address of its own, with a secret of its own."""
    ears = [Ear() for _ in services]
    for service, ear in zip(services, ears, strict=True):
        for number in (NUMBER, OTHER.e164):
            endpoint = service.endpoint
            if number != NUMBER:
                endpoint = Subscriber()
                await endpoint.start()
                service.world.subscribers.append(endpoint)
            endpoint.answer = partial(hear, ear, endpoint)
            answer = await service.call(
                "PUT", f"/v1/numbers/{number}/connection", {"endpoint_url": endpoint.url, "display": "full"}
            )
            assert answer.status == 200, answer
            endpoint.secret = answer.json["signing_secret"]
    return ears


def hear(ear: Ear, endpoint: Subscriber, delivery: Delivery) -> int:
    """The ear keeps what is needed, and the endpoint nothing."""
    endpoint.deliveries.clear()
    return ear.note(delivery)


async def poll(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what is dear to ask for."""
    async with asyncio.timeout(PATIENCE):
        while not await is_so():
            await asyncio.sleep(0.3)


async def reconcile(world: World) -> None:
    """Fetch from Twilio's list what was missed, until nothing is; what is younger than the grace is not asked for."""
    await asyncio.sleep(GRACE.total_seconds() + 1)

    async def is_whole() -> bool:
        answer = await world.call("POST", "/v1/admin/reconciliation")
        return answer.status == 200 and not sum(part["taken"] or 0 for part in answer.json["providers"])

    await poll(is_whole)


async def settle(simulator: Simulator, data_dir: Path) -> None:
    """Everything that is to be sent or fetched has been."""

    async def is_idle() -> bool:
        async with database(data_dir) as conn:
            # What a killed process was fetching is free in five minutes: they pass at once.
            await conn.execute("update media_fetch set next_at = now() where attempts > 0 and next_at > now()")
            waiting = "select (select count(*) from outbox) + (select count(*) from media where state = 'pending')"
            return bool(await conn.fetchval(waiting) == 0)

    await poll(is_idle)
    await simulator.settle()


async def heard_all(data_dir: Path, ears: Sequence[Ear]) -> bool:
    """Whether every service has heard the last event of every conversation."""
    async with database(data_dir) as conn:
        last = await conn.fetchval("select coalesce(sum(last_sequence), 0)::int from conversation")
    return all(sum(ear.last.values()) == last for ear in ears)


async def balance(data_dir: Path, books: Books, simulator: Simulator, agents: Agents, ears: Sequence[Ear]) -> Sheet:
    """The whole account."""
    sheet = Sheet()
    async with database(data_dir) as conn:
        await add_people(sheet, books, conn)
        await add_messages(sheet, books, conn)
        await add_answers(sheet, simulator, agents, conn)
        last = await conn.fetchval("select coalesce(sum(last_sequence), 0)::int from conversation")
    for name, ear in zip(("helpdesk", "crm"), ears, strict=True):
        add_deliveries(sheet, name, ear, books, agents, last)
    return sheet


async def add_people(sheet: Sheet, books: Books, conn: asyncpg.Connection) -> None:
    """Contacts, conversations, consent."""
    sheet.add("contacts", len(books.contacts), await conn.fetchval("select count(*)::int from contact"))
    sheet.add("conversations", len(books.conversations), await conn.fetchval("select count(*)::int from conversation"))
    sheet.add("merge candidates", 0, await conn.fetchval("select count(*)::int from merge_candidate"))
    stopped = "select count(distinct address_key)::int from consent_event where medium = 'sms' and kind = 'stop'"
    sheet.add("customers who said STOP", len(books.stopped), await conn.fetchval(stopped))
    kept = "select count(*)::int from quarantine where state = 'open'"
    sheet.add("quarantined", 0, await conn.fetchval(kept))


async def add_messages(sheet: Sheet, books: Books, conn: asyncpg.Connection) -> None:
    """The timeline by type, origin and age; what was changed of it; files."""
    rows = await conn.fetch(
        "select type, origin, history, count(*)::int as n from message where origin <> 'agent' group by 1, 2, 3"
    )
    found = {(row["type"], row["origin"], row["history"]): row["n"] for row in rows}
    for key in sorted(books.messages.keys() | found.keys()):
        name = f"{key[0]}, {key[1]}{', history' if key[2] else ''}"
        sheet.add(name, books.messages[key], found.get(key, 0))
    repeated = "select count(*)::int from (select 1 from message where provider_id is not null group by channel_id, provider_id having count(*) > 1) as twice"  # noqa: E501
    sheet.add("messages stored twice", 0, await conn.fetchval(repeated))
    edited = "select count(*)::int from message where edited_at is not null and not history"
    sheet.add("edited messages", len(books.edited), await conn.fetchval(edited))
    deleted = "select count(*)::int from message where deleted_at is not null"
    sheet.add("deleted messages", len(books.deleted), await conn.fetchval(deleted))
    states = await conn.fetch("select state, count(*)::int as n from media where service_id is null group by 1")
    files = Counter({row["state"]: row["n"] for row in states})
    for state in sorted(files.keys() | {"kept"}):
        sheet.add(f"files {state}", books.files if state == "kept" else 0, files[state])


async def add_answers(sheet: Sheet, simulator: Simulator, agents: Agents, conn: asyncpg.Connection) -> None:
    """What agents wrote, and what became of it by the providers' word."""
    sent = {send.hub_id: send for send in simulator.sent}
    sheet.add("agents' messages", len(agents.wanted), len(agents.accepted))
    stored = await conn.fetch("select provider_id, status from message where origin = 'agent'")
    sheet.add("agents' messages stored", len(agents.accepted), len(stored))
    sheet.add("sent more than once", 0, len(simulator.sent) - len(sent))
    ends = Counter("delivered" if send.medium == "sms" else "read" for send in sent.values())
    # A kill between the call and its record: nobody knows, and it is never sent again by itself (rule E8).
    ends["unknown"] = len(agents.accepted) - len(sent)
    found = Counter(row["status"] for row in stored)
    for status in sorted(ends.keys() | found.keys()):
        sheet.add(f"agents' messages {status}", ends[status], found[status])
    reports = await conn.fetchval(
        "select count(*)::int from message_status s join message m on m.id = s.message_id"
        " where m.provider = 'meta' and m.origin = 'agent' and s.reported in ('sent', 'delivered', 'read')"
    )
    sheet.add("statuses of Meta's", 3 * sum(send.provider == "meta" for send in sent.values()), reports)


def add_deliveries(sheet: Sheet, name: str, ear: Ear, books: Books, agents: Agents, last: int) -> None:
    """What one service heard."""
    sheet.add(f"{name}: message.received", len(books.received), ear.kinds["message.received"])
    sheet.add(f"{name}: of these, ids as expected", len(books.received), len(books.received & ear.received))
    for kind, count in sorted(books.changes.items()):
        sheet.add(f"{name}: {kind}", count, ear.kinds[kind])
    sheet.add(f"{name}: message.queued", len(agents.accepted), ear.kinds["message.queued"])
    ends = {message_id for message_id in ear.statuses if ear.statuses[message_id] in ("read", "delivered", "unknown")}
    sheet.add(f"{name}: last status of answers", len(agents.accepted), len(ends))
    sheet.add(f"{name}: last sequence numbers, added up", last, sum(ear.last.values()))
    sheet.add(f"{name}: out of order", 0, ear.disorder)
