"""Dispatchers on one database: whatever the endpoints answer and whoever comes and goes, nothing is lost (G2, G3)."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from hub.domain.breaker import Breaker
from hub.domain.endpoints import EndpointPolicy
from hub.domain.events import Event, EventDraft
from hub.domain.ids import event_id
from hub.domain.signing import new_secret
from hub.fanout import dispatcher as engine
from hub.fanout import lanes, outlet
from hub.fanout.client import Answer, DeliveryClient
from hub.fanout.dispatcher import Dispatcher
from hub.store import event_log
from hub.store.deliveries import unpack
from hub.store.event_log import append, find_heads
from hub.store.pool import Database
from hub.store.sealing import Sealer, new_secret_key
from hub.store.subscriptions import add_cursors, add_secret, end_subscription
from tests.support.wire import LOCKS_HERE, ask, until

Conn: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Answers: TypeAlias = Callable[[], Answer]
FIRST = 0.005
TALKS = [UUID(int=(n + 1) << 6 | n % 64) for n in range(80)]
"""Conversations: of every shard one, of some shards two."""
OK = Answer(200)
SEALER = Sealer([new_secret_key()])


def always_ok() -> Answer:
    return OK


def moody(seed: int) -> Answers:
    """Three of four answers are well."""
    random_ = random.Random(seed)
    others = [Answer(422), Answer(500), Answer(None, "timeout"), Answer(None, "connection_refused")]
    return lambda: random_.choices([OK, *others], [76, 8, 8, 4, 4])[0]


class Ledger:
    """What all endpoints were asked and said, from the outside: by subscription and conversation."""

    def __init__(self) -> None:
        self.talk_of: dict[str, UUID] = {}
        self.accepted: dict[tuple[str, UUID], list[str]] = defaultdict(list)
        self.log: list[tuple[str, str, str]] = []

    def expect(self, events: Collection[Event]) -> None:
        """These may be posted from now on."""
        self.talk_of |= {event_id(event.id): event.lane for event in events}

    def repeats(self) -> Counter[tuple[str, str]]:
        """Subscription and event of each that was accepted more than once, with how often too many."""
        return Counter({key: n - 1 for key, n in Counter((url, name) for _, url, name in self.log).items() if n > 1})

    def check(self, url: str, events: Collection[Event], *, is_all: bool = True) -> None:
        """In every conversation the first deliveries are these events in the order of the log: all, or up to one."""
        wanted: dict[UUID, list[str]] = defaultdict(list)
        for event in sorted(events, key=lambda e: e.id):
            wanted[event.lane].append(event_id(event.id))
        for talk in {*wanted, *(talk for at, talk in self.accepted if at == url)}:
            firsts = list(dict.fromkeys(self.accepted[url, talk]))
            assert firsts == wanted[talk] if is_all else firsts == wanted[talk][: len(firsts)]

    def has(self, url: str, events: Collection[Event]) -> bool:
        """Whether all of them were accepted."""
        return {event_id(event.id) for event in events} <= {name for _, at, name in self.log if at == url}


class Endpoint(DeliveryClient):
    """The client of one dispatcher: answers in this process after a few turns of the loop, if its gate is open."""

    def __init__(self, name: str, ledger: Ledger, answers: Answers = always_ok, seed: int = 0) -> None:
        super().__init__(EndpointPolicy(), timeout=1)
        self.name = name
        self.ledger = ledger
        self.answers = answers
        self.gate = asyncio.Event()
        self.gate.set()
        self.flying: set[tuple[str, UUID]] = set()
        self.posts = self.accepted = 0
        self.overlaps: list[tuple[str, UUID]] = []
        self._random = random.Random(seed)

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        name = headers["webhook-id"]
        lane = url, self.ledger.talk_of[name]
        if lane in self.flying:
            self.overlaps.append(lane)
        self.flying.add(lane)
        self.posts += 1
        try:
            for _ in range(self._random.randrange(4)):
                await asyncio.sleep(0)
            await self.gate.wait()
            answer = self.answers()
            if answer.status == 200:
                self.ledger.accepted[lane].append(name)
                self.ledger.log.append((self.name, url, name))
                self.accepted += 1
            return answer
        finally:
            self.flying.discard(lane)


class Process:
    """One dispatcher with connections of its own."""

    def __init__(self, database: Database, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.dispatcher = Dispatcher(database, SEALER, endpoint, concurrency=16, timeout=1)
        self._task = asyncio.create_task(self.dispatcher.run())

    async def stop(self) -> None:
        """End it, with or without a goodbye; by itself it ends only where its connections are gone."""
        self._task.cancel()
        await asyncio.wait([self._task], timeout=8)
        assert self._task.done(), "the dispatcher does not end"
        if not self._task.cancelled():
            self._task.exception()  # seen: it was broken off
        assert self.endpoint.overlaps == []

    @property
    def is_running(self) -> bool:
        return not self._task.done()


class Stage:
    """A database with a number and a channel, its log, and processes that come and go."""

    def __init__(self, url: str, conn: Conn, stack: AsyncExitStack) -> None:
        self.url = url
        self.conn = conn
        self.ledger = Ledger()
        self.events: list[Event] = []
        self.channel = uuid4()
        self._stack = stack

    async def start(self, name: str, answers: Answers = always_ok, seed: int = 0) -> Process:
        """A dispatcher whose connections are known by this name to the server."""
        url = f"{self.url}&application_name={name}"
        database = Database(lambda: {"dsn": url}, size=2)
        await database.open()
        self._stack.push_async_callback(database.close)
        process = Process(database, Endpoint(name, self.ledger, answers, seed))
        self._stack.push_async_callback(process.stop)
        return process

    async def shares(self) -> list[int]:
        """How many shards each dispatcher has; the last number counts those without one."""
        rows = await self.conn.fetch("select owner, count(*) as n from shard_lease group by owner order by owner")
        return [row["n"] for row in rows]

    async def subscribe(self, event_types: list[str] | None = None) -> tuple[UUID, str]:
        """A subscription that starts at the head of the log, and the URL it is told at."""
        subscription, service = uuid4(), uuid4()
        url = f"https://example.com/{subscription.hex}"
        async with self.conn.transaction():
            await self.conn.execute("insert into service (id, name, plan, scopes) values ($1, $2, 'bundle', '{}')",
                                    service, service.hex)  # fmt: skip
            await self.conn.execute(
                "insert into subscription (id, channel_id, service_id, endpoint_url, event_types, connected_at) "
                "values ($1, $2, $3, $4, $5, now() - interval '1 minute')",
                subscription, self.channel, service, url, event_types,
            )  # fmt: skip
            await add_secret(self.conn, subscription, SEALER.seal(new_secret()))
            await add_cursors(self.conn, subscription, await find_heads(self.conn))
        return subscription, url

    def draft(self, talk: UUID, type_: str = "message.status") -> EventDraft:
        return EventDraft(type_, talk, datetime.now(UTC), {}, channel_id=self.channel, conversation_id=talk)

    async def log(
        self, talks: Sequence[UUID], type_: str = "message.status", conn: "Conn | None" = None
    ) -> list[Event]:
        """One event of each conversation in this order, in one transaction."""
        conn = conn or self.conn
        async with conn.transaction():
            made = await append(conn, [self.draft(talk, type_) for talk in talks])
            self.ledger.expect(made)
        self.events += made
        return made

    async def settled(self, subscription: UUID, seconds: float = 5) -> None:
        """Wait until every cursor stands at the head, and no lane is parked."""

        async def is_so() -> bool:
            heads = await find_heads(self.conn)
            rows = await self.conn.fetch("select shard, position from cursor where subscription_id = $1", subscription)
            parked = await self.conn.fetchval(
                "select count(*) from parked_lane where subscription_id = $1", subscription
            )
            return not parked and {row["shard"]: row["position"] for row in rows} == heads

        await until(is_so, seconds)

    async def written(self) -> set[tuple[str, str]]:
        """URL and event of every delivery that is written down."""
        rows = await self.conn.fetch("select entries from delivered")
        entries = [entry for row in rows for entry in unpack(row["entries"])]
        return {(f"https://example.com/{key.hex}", event_id(number)) for key, number, _, _ in entries}

    async def break_off(self, process: Process) -> None:
        """What a kill does to its connections: no goodbye, nothing more is written."""
        await self.conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and datname = "
            "current_database()",
            process.endpoint.name,
        )


@asynccontextmanager
async def staged(database_url: str) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        conn = await asyncpg.connect(database_url)
        stack.push_async_callback(conn.close)
        stage = Stage(database_url, conn, stack)
        number = await conn.fetchval("insert into number (e164) values ('+15550009999') returning id")
        await conn.execute("insert into channel (id, number_id, kind) values ($1, $2, 'shared')", stage.channel, number)
        yield stage


@pytest.fixture
async def stage(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """With schedules and pauses that are very short, and so many attempts that nothing is given up."""
    monkeypatch.setattr(lanes, "DELIVERY_SCHEDULE", (FIRST,) * 100)
    monkeypatch.setattr(lanes, "SECOND_LOOK", FIRST)
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(f"hub.domain.breaker.{name}", FIRST)
    monkeypatch.setattr(outlet, "Breaker", lambda random_: Breaker(random_, _pause=FIRST))
    for name, seconds in {"HOLD": 0.05, "SHOW": 0.05, "POLL": 0.005}.items():
        monkeypatch.setattr(engine, name, seconds)
    async with staged(database_url) as made:
        yield made


async def test_g2_dispatchers_that_come_and_go_lose_and_repeat_nothing_and_keep_the_order(stage: Stage) -> None:
    """Two exchange shards while endpoints fail at random; who is told to stop says goodbye, so nothing is repeated."""
    random_ = random.Random(7)
    receivers = [await stage.subscribe() for _ in range(2)]

    async def talk(count: int, *publishers: Process) -> None:
        """As a gateway in one of these processes would, or as one elsewhere."""
        for _ in range(count):
            made = await stage.log(random_.choices(TALKS, k=random_.randint(1, 12)))
            publisher = random_.choice([None, *publishers])
            if publisher is not None:
                publisher.dispatcher.publish(made)

    one = await stage.start("one", moody(1), seed=1)
    await until(lambda: one.endpoint.posts or stage.log(TALKS[:3]))
    await talk(20, one)
    two = await stage.start("two", moody(2), seed=2)
    await talk(20, one, two)
    await until(lambda: _is(stage.shares, [32, 32]))
    await talk(20, one, two)
    await one.stop()
    await talk(20, two)
    one = await stage.start("one again", moody(3), seed=3)
    await talk(10, one, two)
    await until(lambda: _is(stage.shares, [32, 32]))
    await two.stop()
    await talk(10, one)
    for _, url in receivers:
        await until(lambda url=url: stage.ledger.has(url, stage.events), 30)
        stage.ledger.check(url, stage.events)
    assert stage.ledger.repeats() == {}
    assert {name for name, _, _ in stage.ledger.log} == {"one", "two", "one again"}
    await one.stop()
    assert await stage.conn.fetchval("select count(*) from parked_lane") == 0


async def test_g2_a_log_that_is_followed_while_shards_are_taken_over_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between one subscription's turn and the next, the log is looked at: the tail is not known yet."""
    looks, count_behind, find_pulse = 0, engine.deliveries.count_behind, engine.event_log.find_pulse

    async def counting(conn: "Conn") -> tuple[int, int]:
        nonlocal looks
        looks += 1
        return await find_pulse(conn)

    async def slowly(*args: Any) -> dict[int, int]:
        found = await count_behind(*args)
        seen = looks
        await until(lambda: looks > seen + 2)
        return found

    receivers = [await stage.subscribe() for _ in range(2)]
    await stage.log(TALKS)
    monkeypatch.setattr(engine.event_log, "find_pulse", counting)
    monkeypatch.setattr(engine.deliveries, "count_behind", slowly)
    await stage.start("one")
    for _, url in receivers:
        await until(lambda url=url: stage.ledger.has(url, stage.events))
        stage.ledger.check(url, stage.events)


async def _is(ask_: Callable[[], object], wanted: object) -> bool:
    found = ask_()
    return (await found if asyncio.iscoroutine(found) else found) == wanted


@pytest.mark.parametrize("is_heir_there", [True, False])
async def test_g2_what_a_dispatcher_that_broke_off_did_not_write_down_is_all_that_is_repeated(
    stage: Stage, is_heir_there: bool
) -> None:
    """Some of its deliveries are answered after its connections are gone: nobody knows of them but the endpoint."""
    _, url = await stage.subscribe()
    dead = await stage.start("dead", moody(4), seed=4)
    heir = await stage.start("heir", moody(5), seed=5) if is_heir_there else None
    if heir:
        await until(lambda: _is(stage.shares, [32, 32]))
    for _ in range(10):
        await stage.log(TALKS)
    await until(lambda: dead.endpoint.accepted > 100)
    await until(stage.written)
    dead.endpoint.answers = always_ok
    before = dead.endpoint.accepted
    await stage.log(TALKS)
    await until(lambda: dead.endpoint.accepted > before + 20)  # so its breaker is closed
    dead.endpoint.gate.clear()
    await stage.log(TALKS)
    await until(lambda: len(dead.endpoint.flying) >= 8)
    await stage.break_off(dead)
    if heir:
        await until(lambda: _is(stage.shares, [64]))
    dead.endpoint.gate.set()
    await until(lambda: not dead.is_running)
    known = await stage.written()
    mine = {(at, name) for process, at, name in stage.ledger.log if process == "dead"}
    heir = heir or await stage.start("heir", moody(5), seed=5)
    await stage.log(TALKS)
    await until(lambda: stage.ledger.has(url, stage.events))
    await until(lambda: not heir.endpoint.flying)
    stage.ledger.check(url, stage.events)
    repeats = stage.ledger.repeats()
    assert known
    assert len(repeats) >= 8
    assert set(repeats.values()) == {1}
    if not is_heir_there:
        assert set(repeats) == mine - known
    assert set(repeats) <= mine


async def test_g2_after_a_clean_stop_the_next_one_repeats_nothing(stage: Stage, database_url: str) -> None:
    """It stops in the middle: with a backlog, with lanes that are parked, with answers outstanding."""
    subscription, url = await stage.subscribe()
    one = await stage.start("one", moody(6), seed=6)
    for _ in range(8):
        await stage.log(TALKS)
    await until(lambda: len(stage.ledger.log) > 200)
    await one.stop()
    assert not stage.ledger.has(url, stage.events)
    assert await ask(database_url, "select count(*) from dispatcher") == 0
    assert {(at, name) for _, at, name in stage.ledger.log} == await stage.written()
    assert await ask(database_url, "select sum(position) from cursor") > 0
    two = await stage.start("two", moody(7), seed=7)
    await until(lambda: stage.ledger.has(url, stage.events))
    stage.ledger.check(url, stage.events)
    await two.stop()
    await stage.settled(subscription)
    three = await stage.start("three")
    await stage.log(TALKS[:5])
    await until(lambda: stage.ledger.has(url, stage.events))
    await three.stop()
    assert stage.ledger.repeats() == {}
    assert three.endpoint.posts == 5


async def test_g2_subscriptions_that_come_and_go_under_load_disturb_nobody(stage: Stage) -> None:
    """Who stays gets everything once, who comes all from its start on, who goes nothing out of order before its end."""
    _, stays = await stage.subscribe()
    leaver, left = await stage.subscribe()
    one = await stage.start("one", moody(8), seed=8)
    random_ = random.Random(9)
    added: list[tuple[str, int]] = []
    for round_ in range(40):
        made = await stage.log(random_.choices(TALKS, k=6))
        if round_ % 2:
            one.dispatcher.publish(made)
        if round_ % 16 == 5:
            _, url = await stage.subscribe()
            added.append((url, len(stage.events)))
        if round_ == 20:
            await until(lambda: any(at == left for _, at, _ in stage.ledger.log))
            await end_subscription(stage.conn, leaver)
        if round_ % 3 == 0:
            one.dispatcher.refresh()
    expected = {stays: stage.events} | {url: stage.events[start:] for url, start in added}
    for url, events in expected.items():
        await until(lambda url=url, events=events: stage.ledger.has(url, events))
        stage.ledger.check(url, events)
    stage.ledger.check(left, stage.events, is_all=False)
    assert stage.ledger.repeats() == {}
    assert not any(at == left for at, _ in one.endpoint.flying)


@pytest.mark.parametrize("late", [engine.LATE, 0.0])
async def test_g2_an_event_that_is_committed_late_is_delivered(
    stage: Stage, database_url: str, monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    """Its id was drawn before others that are delivered already; also when nobody looks out for it any more (0.0)."""
    monkeypatch.setattr(engine, "LATE", late)
    monkeypatch.setattr(engine, "SURE", 0.1)
    _, url = await stage.subscribe()
    one = await stage.start("one")
    first, second = TALKS[3], TALKS[4]
    slow = await asyncpg.connect(database_url)
    try:
        async with slow.transaction():
            [early] = await stage.log([first], conn=slow)
            others = [(await stage.log([second]))[0] for _ in range(3)]
            one.dispatcher.publish(others[-1:])
            await until(lambda: stage.ledger.has(url, others))
            assert not stage.ledger.has(url, [early])
        await until(lambda: stage.ledger.has(url, [early]))
        async with slow.transaction():
            [before] = await stage.log([first], conn=slow)
            after = asyncio.create_task(stage.log([first]))
            await until(lambda: _waits_for_a_shard(slow))
        assert (await after)[0].prev_id == before.id
        await until(lambda: stage.ledger.has(url, stage.events))
    finally:
        await slow.close()
    stage.ledger.check(url, stage.events)
    assert stage.ledger.repeats() == {}


async def _waits_for_a_shard(conn: Conn) -> bool:
    waiting = await conn.fetchval(f"select count(*) from {LOCKS_HERE} where classid = 7001 and not granted")
    return bool(waiting == 1)


async def test_g2_an_event_that_comes_while_its_parked_conversation_is_read_again_is_delivered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes from memory, after the statement that reads the others and before the answer of the database."""
    read, reading, gate = event_log.list_lane, asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any) -> list[Event]:
        found = await read(*args)
        reading.set()
        await gate.wait()
        return found

    monkeypatch.setattr(event_log, "list_lane", slowly)
    _, url = await stage.subscribe()
    refusals = [Answer(422)]
    one = await stage.start("one", lambda: refusals.pop() if refusals else OK)
    await until(lambda: _is(stage.shares, [64]))
    await stage.log(TALKS[:1])
    async with asyncio.timeout(5):
        await reading.wait()
    one.dispatcher.publish(await stage.log(TALKS[:1]))
    gate.set()
    one.dispatcher.publish(await stage.log(TALKS[:1]))
    await until(lambda: stage.ledger.has(url, stage.events), 3)
    stage.ledger.check(url, stage.events)
    assert stage.ledger.repeats() == {}


async def test_g2_a_shard_that_was_to_be_given_away_and_is_kept_after_all_goes_on(stage: Stage) -> None:
    """A second dispatcher comes and goes again while a delivery in that shard is still in flight."""
    _, url = await stage.subscribe()
    one = await stage.start("one")
    await until(lambda: _is(stage.shares, [64]))
    one.endpoint.gate.clear()
    talk = next(talk for talk in TALKS if talk.int & 63 == 63)
    await stage.log([talk, talk])
    await until(lambda: one.endpoint.flying)
    two = await stage.start("two")
    await until(lambda: _is(stage.shares, [33, 31]))
    await two.stop()
    await until(lambda: _is(stage.shares, [64]))
    one.endpoint.gate.set()
    await stage.log([talk])
    await until(lambda: stage.ledger.has(url, stage.events), 3)
    stage.ledger.check(url, stage.events)


async def test_g3_who_got_everything_is_shown_to_be_behind_by_nothing(stage: Stage) -> None:
    """Also who hears only some types, at a takeover; and who connected while events were on their way."""
    picky, picky_url = await stage.subscribe(["message.edited"])
    await stage.log(TALKS)
    await stage.log(TALKS[:10], "message.edited")
    await stage.start("one")
    heard = stage.events[-10:]
    await until(lambda: stage.ledger.has(picky_url, heard))
    async with stage.conn.transaction():  # the dispatcher sees both at one look
        await stage.log(TALKS[:20])
        newcomer, url = await stage.subscribe()
    made = await stage.log(TALKS[:20])
    await until(lambda: stage.ledger.has(url, made))

    async def behind() -> dict[UUID, int]:
        rows = await stage.conn.fetch("select subscription_id, behind + waiting as n from delivery_state")
        return {row["subscription_id"]: row["n"] for row in rows}

    await until(lambda: _is(behind, {picky: 0, newcomer: 0}), 3)
