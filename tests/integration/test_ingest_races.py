"""Two processes' worth of ingest on one database: races may be lost, never won twice (rules B4, B6, B8; the engine)."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from hub.actions.arrivals import Arrival
from hub.actions.receive import receive
from hub.actions.record_send import record_send
from hub.actions.register import register_number
from hub.actions.resolve import Directory
from hub.domain.events import Event, EventDraft
from hub.domain.ids import new_id, shard_of
from hub.store import event_log
from hub.store.event_log import append, find_heads, list_after
from hub.store.numbers import SenderDraft
from hub.store.pool import Database, TryAgain
from hub.workers.intake import Intake
from providers.base import Route, Sent, WebhookRequest
from providers.whatsapp_cloud import webhook
from tests.support.wire import ask, connected, envelope, text, value
from tests.support.world import NUMBER, PHONE_NUMBER_ID

ROUTE = Route(
    path="/webhooks/meta",
    verify=lambda _: True,
    parse=webhook.parse,
    envelopes=webhook.envelopes,
    repeats=True,
)


def arrivals(*items: Any, name: str = "messages") -> list[Arrival]:
    """A verified webhook with these items."""
    body = json.dumps(envelope(value(items, name=name))).encode()
    request = WebhookRequest(ROUTE.path, {"content-type": "application/json"}, body)
    return [Arrival(item, "meta", request, ROUTE) for item in ROUTE.parse(request)]


@dataclass
class Process:
    """What one hub process has of its own: a pool, a flusher, and what it published."""

    database: Database
    intake: Intake
    published: list[Event] = field(default_factory=list)


@asynccontextmanager
async def process(database_url: str) -> AsyncIterator[Process]:
    database = Database(lambda: {"dsn": database_url}, size=3)
    await database.open()
    published: list[Event] = []
    intake = Intake(database, published.extend, queue_limit=10_000)
    task = asyncio.create_task(intake.run())
    try:
        yield Process(database, intake, published)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close()


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[tuple[Process, Process]]:
    """Two processes on one database, with one registered number."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(process(database_url))
        two = await stack.enter_async_context(process(database_url))
        async with one.database.transaction() as conn:
            await register_number(conn, NUMBER, [SenderDraft("whatsapp", "meta", PHONE_NUMBER_ID)])
        yield one, two


async def assert_dense(database_url: str) -> None:
    """B6: numbers of a conversation's events have no gap and no twin; predecessors in a shard form one chain."""
    async with connected(database_url) as conn:
        rows = await conn.fetch("select id, shard, prev_id, conversation_id, sequence from event order by id")
        lasts = dict(await conn.fetch("select id, last_sequence from conversation"))
    numbered: dict[UUID, list[int]] = {}
    heads: Counter[int] = Counter()
    for row in rows:
        assert row["prev_id"] == heads[row["shard"]]
        heads[row["shard"]] = row["id"]
        numbered.setdefault(row["conversation_id"], []).append(row["sequence"])
    for conversation, sequences in numbered.items():
        assert sequences == list(range(1, len(sequences) + 1))  # also: in the order of the log
        assert lasts[conversation] == len(sequences)


async def test_b8_first_messages_of_one_customer_at_once_make_one_contact(
    pair: tuple[Process, Process], database_url: str
) -> None:
    for round_ in range(15):
        phone = f"4915100000{round_:03d}"
        posts = [side.intake.submit(arrivals(text(f"{n}", phone))) for n in range(4) for side in pair]
        await asyncio.gather(*posts)
    assert await ask(database_url, "select count(*) from contact") == 15
    assert await ask(database_url, "select count(*) from conversation") == 15
    assert await ask(database_url, "select count(*) from message") == 15 * 8
    assert await ask(database_url, "select count(*) from contact_address") == 15
    await assert_dense(database_url)


async def test_b8_many_new_customers_in_opposite_order_at_once(
    pair: tuple[Process, Process], database_url: str
) -> None:
    """Each process meets the same customers in another order, under several of their names."""
    chance = random.Random(3)
    people = [(f"4915100000{n:03d}", f"US.{n:04d}") for n in range(20)]
    posts = []
    for side in pair:
        for _ in range(3):
            chance.shuffle(people)
            items = [text("x", phone) | {"from_user_id": user_id} for phone, user_id in people]
            posts.append(side.intake.submit(arrivals(*items)))
            posts += [side.intake.submit(arrivals(text("y", phone))) for phone, _ in people]
    await asyncio.gather(*posts)
    assert await ask(database_url, "select count(*) from message") == 240
    owners = "select count(distinct contact_id) from contact_address where type = 'phone'"
    assert await ask(database_url, owners) == 20
    assert await ask(database_url, "select count(*) from contact") == 20
    assert await ask(database_url, "select count(*) from conversation") == 20
    await assert_dense(database_url)


async def test_b4_the_same_batch_in_two_processes_at_once_is_stored_once(
    pair: tuple[Process, Process], database_url: str
) -> None:
    for round_ in range(10):
        items = [text(f"{round_}/{n}", f"4915100000{n:03d}") for n in range(20)]
        posts = [side.intake.submit(arrivals(*random.Random(seed).sample(items, 20)))
                 for seed, side in enumerate((*pair, *pair))]  # fmt: skip
        await asyncio.gather(*posts)
    assert await ask(database_url, "select count(*) from message") == 200
    assert await ask(database_url, "select count(*) from event") == 200
    published = [event.id for side in pair for event in side.published]
    assert len(published) == len(set(published)) == 200
    await assert_dense(database_url)


async def test_b4_a_duplicate_within_a_batch_is_dropped_on_the_short_way_too(
    pair: tuple[Process, Process], database_url: str
) -> None:
    """A known customer's messages take one statement: it must drop what the long way drops."""
    side, _ = pair
    await side.intake.submit(arrivals(text("hello")))
    twin, other = text("twin"), text("other")
    await asyncio.gather(*(side.intake.submit(arrivals(twin, other, twin)) for _ in range(5)))
    await side.intake.submit(arrivals(other, twin))
    assert await ask(database_url, "select count(*) from message") == 3
    assert await ask(database_url, "select count(*) from event") == 3
    await assert_dense(database_url)


async def test_b8_what_one_process_learns_of_a_contact_the_other_heeds(
    pair: tuple[Process, Process], database_url: str
) -> None:
    """Process two remembers a customer by id; process one learns the phone; both go on in one conversation."""
    one, two = pair
    by_id = {key: part for key, part in (text("id") | {"from_user_id": "US.1"}).items() if key != "from"}
    await two.intake.submit(arrivals(by_id))
    await one.intake.submit(arrivals(text("both") | {"from_user_id": "US.1"}))
    await asyncio.gather(
        one.intake.submit(arrivals(text("phone"))),
        two.intake.submit(arrivals({key: part for key, part in (text("again") | {"from_user_id": "US.1"}).items()
                                    if key != "from"})),
        two.intake.submit(arrivals(text("phone too"))),
    )  # fmt: skip
    assert await ask(database_url, "select count(*) from contact") == 1
    assert await ask(database_url, "select count(*) from conversation") == 1
    last = json.loads(two.published[-1].data)
    assert {a["type"] for a in last["contact"]["addresses"]} == {"user_id", "phone"}
    await assert_dense(database_url)


async def test_a_service_that_connects_in_between_is_heard_of_at_once(
    pair: tuple[Process, Process], database_url: str
) -> None:
    """B7, A3: what a process remembers of the channels does not outlive a change of them."""
    one, _ = pair
    await one.intake.submit(arrivals(text("before")))
    service, channel = new_id(), new_id()
    async with connected(database_url) as conn:
        await conn.execute(
            "insert into service (id, name, plan, scopes) values ($1, 'late', 'standalone', '{}')", service
        )
        await conn.execute(
            "insert into channel (id, number_id, kind, owner_service_id) select $1, id, 'standalone', $2 from number",
            channel,
            service,
        )
        await conn.execute(
            "insert into subscription (id, channel_id, service_id) values ($1, $2, $3)", new_id(), channel, service
        )
    await one.intake.submit(arrivals(text("after")))
    heard = "select count(*) from event where channel_id = $1"
    assert await ask(database_url, heard, channel) == 1


# Statuses against the record of the send (E7) -----------------------------------------------------------------------


async def queued_message(database_url: str, pair: tuple[Process, Process]) -> tuple[UUID, UUID]:
    """A message that is with the provider, whose answer is not recorded yet."""
    await pair[0].intake.submit(arrivals(text("hi")))
    message = new_id()
    async with connected(database_url) as conn:
        conversation: UUID = await conn.fetchval("select id from conversation")
        service = new_id()
        await conn.execute("insert into service (id, name, plan, scopes) values ($1, 's', 'bundle', '{}')", service)
        await conn.execute(
            """insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type,
                                    origin, author_service_id, agent_id, content, provider, status)
               select $1, number_id, channel_id, id, 1000, 'outbound', medium, 'text', 'agent', $2, 'a', '{}', 'meta',
                      'sending' from conversation""",
            message,
            service,
        )
    return message, conversation


@pytest.mark.parametrize("is_status_first", [True, False])
async def test_e7_a_status_that_meets_the_record_of_its_send_is_not_lost(
    pair: tuple[Process, Process], database_url: str, is_status_first: bool
) -> None:
    """Both transactions look before the other has committed; whoever comes second must see the first."""
    message, conversation = await queued_message(database_url, pair)
    status = {"id": "wamid.race", "status": "read", "recipient_id": "4915112345678", "timestamp": "1700000000"}
    now = datetime.now(UTC)
    take = partial(receive, directory=Directory(), arrivals=arrivals(status, name="statuses"), now=now)
    record = partial(
        record_send, message_id=message, conversation_id=conversation, outcome=Sent("wamid.race"), attempts=1, now=now
    )
    first, second = (take, record) if is_status_first else (record, take)
    async with connected(database_url) as one, connected(database_url) as two:
        outer = one.transaction()
        await outer.start()
        await first(one)
        late = asyncio.create_task(_in_transaction(two, second))
        await _settled(database_url, late)
        await outer.commit()
        await late
    assert await ask(database_url, "select status from message where id = $1", message) == "read"
    assert await ask(database_url, "select count(*) from orphan_status") == 0


async def _in_transaction(conn: "asyncpg.Connection[asyncpg.Record]", work: Callable[..., Any]) -> None:
    async with conn.transaction():
        await work(conn)


async def _settled(database_url: str, task: "asyncio.Task[None]") -> None:
    """Wait until the task is done, or its backend waits for a lock."""
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    async with connected(database_url) as conn:
        while not task.done() and not await conn.fetchval(waiting):
            await asyncio.sleep(0.01)


# The log ------------------------------------------------------------------------------------------------------------

WRITERS, ROUNDS = 8, 60


async def test_eight_writers_and_a_reader_by_cursor_miss_nothing(database_url: str) -> None:
    """Within a shard the order of ids is the order of commits: who follows `id > cursor` sees every event once."""
    lanes = [new_id() for _ in range(40)]
    done = asyncio.Event()

    async def write(seed: int) -> list[int]:
        chance, mine = random.Random(seed), []
        async with connected(database_url) as conn:
            for _ in range(ROUNDS):
                drafts = [
                    EventDraft(type="test", lane=lane, at=datetime.now(UTC), data={}, conversation_id=lane)
                    for lane in chance.choices(lanes, k=chance.randint(1, 6))
                ]
                async with conn.transaction():
                    mine += [event.id for event in await append(conn, drafts)]
                    if chance.random() < 0.5:  # let others draw ids before this commits
                        await conn.execute("select pg_sleep($1)", chance.random() / 100)
        return mine

    async def follow() -> list[Event]:
        seen: list[Event] = []
        async with connected(database_url) as conn:
            positions = dict.fromkeys(await find_heads(conn), 0)
            while True:
                is_last = done.is_set()
                found = await list_after(conn, positions, 7)
                for event in found:
                    assert event.prev_id == positions[event.shard]
                    positions[event.shard] = event.id
                seen += found
                if is_last and not found:
                    return seen

    readers = [asyncio.create_task(follow()) for _ in range(2)]
    written = [id_ for mine in await asyncio.gather(*map(write, range(WRITERS))) for id_ in mine]
    done.set()
    for reader in readers:
        seen = await reader
        assert sorted(event.id for event in seen) == sorted(written)
        assert all(event.shard == shard_of(event.lane) for event in seen)


async def test_without_the_shard_lock_the_reader_would_miss_some(database_url: str) -> None:
    """The proof of the proof: two writers that draw ids in one order and commit in the other."""
    lane = new_id()
    shard = shard_of(lane)
    add = """insert into event (id, shard, prev_id, type, conversation_id, data, created_at)
             values (nextval('event_id_seq'), $1, 0, 'test', $2, '{}', now())"""
    async with connected(database_url) as one, connected(database_url) as two:
        early = one.transaction()
        await early.start()
        await one.execute(add, shard, lane)
        await two.execute(add, shard, lane)  # commits first, with the higher id
        (seen,) = await list_after(two, {shard: 0}, 10)
        await early.commit()
        assert await list_after(two, {shard: seen.id}, 10) == []  # the first one is never seen


async def test_append_takes_shards_in_one_order_whatever_the_order_of_drafts(database_url: str) -> None:
    """E2: two appends over the same shards in opposite order wait for each other and never deadlock."""
    lanes = [UUID(int=n) for n in range(64)]

    def drafts(order: Sequence[UUID]) -> list[EventDraft]:
        return [EventDraft(type="t", lane=lane, at=datetime.now(UTC), data={}, channel_id=lane) for lane in order]

    async def write(order: Sequence[UUID]) -> None:
        async with connected(database_url) as conn:
            for _ in range(10):
                async with conn.transaction():
                    await event_log.append(conn, drafts(order))

    try:
        await asyncio.gather(*(write(order) for order in (lanes, lanes[::-1], lanes, lanes[::-1])))
    except (TryAgain, asyncpg.DeadlockDetectedError):
        pytest.fail("the shards' locks were taken in different orders")
    assert await ask(database_url, "select count(*) from event") == 64 * 40
