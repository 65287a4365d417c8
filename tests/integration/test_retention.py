"""Retention (H6): partitions go when all of them is old and nobody needs it; who is left behind is told, once."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from hub.actions.expire import expire
from hub.domain.events import EventDraft
from hub.domain.ids import event_id, new_id
from hub.store import click_totals, event_log, retention, stale_visits
from hub.store.deliveries import pack
from hub.store.pool import Database
from hub.workers.janitor import DROPPED, EXPIRED, HELD_BACK, PARTITION_BYTES, PARTITIONS, Janitor
from tests.support.database import TEMPLATE, Server
from tests.support.wire import connected

SIZE = 50
OLD = 160
"""Events 1 to 160 are 40 days old, those up to 180 of today: three partitions are old and full."""
LAST = 180


def lane(shard: int) -> UUID:
    """A new id that belongs to this shard."""
    return UUID(int=new_id().int & ~63 | shard)


@dataclass
class Bench:
    """A log in small partitions: four conversations of one channel, one of another, in shards of their own."""

    conn: "asyncpg.Connection[asyncpg.Record]"
    database: Database
    url: str
    channel: UUID = field(default_factory=lambda: lane(10))
    foreign: UUID = field(default_factory=lambda: lane(11))
    lanes: list[UUID] = field(default_factory=lambda: [lane(shard) for shard in range(5)])
    number: int = 0

    async def prepare(self) -> None:
        """Nothing of the test before; two channels, their conversations, small partitions."""
        partitions = await self.conn.fetch(
            "select name from unnest($1::text[]) t, partitions_of(t::regclass)",
            ["event", "click", "click_origin", "web_event"],
        )
        await self.conn.execute(f"drop table {', '.join(row['name'] for row in partitions)}")
        await self.conn.execute(_WIPE)
        await self.conn.execute("select make_partitions($1, 7, $1)", SIZE)
        for channel, lanes, e164 in (
            (self.channel, self.lanes[:4], "+15550001111"),
            (self.foreign, self.lanes[4:], "+15550002222"),
        ):
            self.number = await self.conn.fetchval("insert into number (e164) values ($1) returning id", e164)
            await self.conn.execute(
                "insert into channel (id, number_id, kind) values ($1, $2, 'shared')", channel, self.number
            )
            for conversation in lanes:
                contact = await self.conn.fetchval("insert into contact (id) values (gen_random_uuid()) returning id")
                await self.conn.execute(
                    "insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, "
                    "reply_to_value) values ($1, $2, $3, 'sms', $4, 'phone', '+4915112345678')",
                    conversation, self.number, channel, contact,
                )  # fmt: skip

    async def fill(self, first: int = 1, last: int = LAST, old: int = OLD) -> None:
        """Events one after the other, conversation by conversation; every fifth is the other channel's."""
        await self.conn.execute("select setval('event_id_seq', $1)", last)
        await self.conn.execute("select make_partitions($1, 7, $1)", SIZE)
        await self.conn.execute(
            """
            insert into event (id, shard, prev_id, type, channel_id, conversation_id, data, created_at)
            select n, n % 5, greatest(n - 5, 0), 'message.received',
                   case when n % 5 = 4 then $2::uuid else $1::uuid end, ($3::uuid[])[n % 5 + 1], '{}',
                   now() - case when n <= $6 then interval '40 days' else '0' end
            from generate_series($4::int, $5::int) n""",
            self.channel, self.foreign, self.lanes, first, last, old,
        )  # fmt: skip

    async def subscribe(
        self,
        positions: dict[int, int] | int = LAST,
        *,
        state: str = "active",
        endpoint: str | None = "https://x.test",
        event_types: list[str] | None = None,
    ) -> UUID:
        """A service of the channel whose cursors stand here: all of them, or these and the others at the end."""
        service, subscription = uuid4(), uuid4()
        await self.conn.execute(
            "insert into service (id, name, plan, scopes) values ($1, 'crm', 'bundle', '{}')", service
        )
        await self.conn.execute(
            """
            insert into subscription (id, channel_id, service_id, endpoint_url, event_types, state, paused_at,
                                      paused_reason)
            values ($1, $2, $3, $4, $5, $6, case when $6 = 'paused' then now() - interval '35 days' end,
                    case when $6 = 'paused' then 'asked' end)""",
            subscription, self.channel, service, endpoint, event_types, state,
        )  # fmt: skip
        places = dict.fromkeys(range(64), positions) if isinstance(positions, int) else {**_END, **positions}
        await self.conn.execute(
            "insert into cursor (subscription_id, shard, position) select $1, * from unnest($2::int[], $3::bigint[])",
            subscription, list(places), list(places.values()),
        )  # fmt: skip
        return subscription

    async def park(self, subscription: UUID, shard: int, first: int, due: str = "1 hour") -> None:
        """Park a conversation at this event."""
        await self.conn.execute(
            "insert into parked_lane (subscription_id, lane, shard, first_event_id, attempts, next_attempt_at) "
            "values ($1, $2, $3, $4, 3, case when $5 = 'held' then 'infinity' else now() + interval '1 hour' end)",
            subscription, self.lanes[shard], shard, first, due,
        )  # fmt: skip

    async def replay(self, subscription: UUID, position: int, upto: int = LAST, ended: str | None = None) -> UUID:
        """A replay in one shard."""
        replay = uuid4()
        await self.conn.execute(
            "insert into replay (id, subscription_id, asked_by, selection, cancelled_at) "
            "values ($1, $2, 'operator', '{}', case when $3 = 'cancelled' then now() end)",
            replay, subscription, ended,
        )  # fmt: skip
        await self.conn.execute(
            "insert into replay_shard (replay_id, shard, position, upto, finished_at) "
            "values ($1, 1, $2, $3, case when $4 = 'finished' then now() end)",
            replay, position, upto, ended,
        )  # fmt: skip
        return replay

    async def round(self, event_days: float = 30) -> list[str]:
        """The janitor comes by once; gives the chores that failed."""
        janitor = Janitor(
            self.database, inbound_key_days=30, event_retention_days=event_days, attempt_retention_days=14,
            click_retention_days=60, address_retention_days=7, visit_retention_days=90,
        )  # fmt: skip
        owner = await self.database.dedicated()
        try:
            with capture_logs() as logs:
                await janitor._round(owner)
        finally:
            await owner.close()
        return [entry["chore"] for entry in logs if entry["event"] == "janitor.chore_failed"]

    async def start(self) -> int:
        """Where the log begins: the lowest bound, and every event from there on is there."""
        low: int = await self.conn.fetchval("select min(low::bigint) from partitions_of('event')")
        last = await self.conn.fetchval("select max(id) from event")
        assert await self.conn.fetchval("select count(*) from event where type = 'message.received'") == len(
            range(max(low, 1), LAST + 1)
        ), last
        return low

    async def positions(self, subscription: UUID) -> set[int]:
        """Where its cursors stand."""
        rows = await self.conn.fetch("select position from cursor where subscription_id = $1", subscription)
        return {row["position"] for row in rows}

    async def told(self) -> list[tuple[int, int]]:
        """The ranges that expired, as they are written down; the events and the audit say the same."""
        rows = await self.conn.fetch("select after_event_id, upto_event_id from expired_range order by id")
        return [tuple(row) for row in rows]


PAUSE = "update subscription set state = 'paused', paused_at = now(), paused_reason = 'asked'"
RESUME = "update subscription set state = 'active', paused_at = null, paused_reason = null, run = run + 1"
_END = dict.fromkeys(range(64), LAST)
_WIPE = """
delete from click; delete from click_origin; delete from click_total; delete from click_untold; delete from web_event;
delete from landing; delete from visitor_binding; delete from visitor_twin; delete from visitor;
delete from page_receipt; delete from used_token; delete from tracked_link;
delete from expired_range; delete from dead_letter; delete from replay_shard; delete from replay;
delete from parked_lane; delete from cursor; delete from subscription; delete from service;
delete from conversation; delete from contact; delete from channel; delete from number;
delete from audit; delete from delivered; delete from attempt;
select setval('event_id_seq', 1, false)"""


@pytest.fixture(scope="module")
def shared_url(server: Server) -> Iterator[str]:
    """One database for all of these tests: each begins with an empty log."""
    name = "test_retention"
    asyncio.run(server.execute(f"create database {name} template {TEMPLATE}"))
    yield server.url(name)
    asyncio.run(server.execute(f"drop database {name} with (force)"))


@pytest.fixture
async def bench(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(retention, "SMALLEST", SIZE)
    monkeypatch.setattr(retention, "BIGGEST", SIZE)
    database = Database(lambda: {"dsn": shared_url})
    await database.open()
    async with connected(shared_url) as conn:
        made = Bench(conn, database, shared_url)
        await made.prepare()
        await made.fill()
        yield made
    await database.close()


# When a partition goes ----------------------------------------------------------------------------------------------

Setup = Callable[[Bench], Awaitable[Any]]


async def _parked(bench: Bench, first: int, due: str = "soon", **more: Any) -> None:
    await bench.park(await bench.subscribe(**more), first % 5, first, due)


async def _replaying(bench: Bench, position: int, *, ended: str | None = None, upto: int = LAST, **more: Any) -> None:
    await bench.replay(await bench.subscribe(**more), position, upto, ended)


async def _two(bench: Bench) -> None:
    await bench.subscribe({1: 110})
    await bench.subscribe({1: 60, 2: 130})


async def _disconnected(bench: Bench) -> None:
    subscription = await bench.subscribe(20)
    await bench.park(subscription, 1, 21)
    await bench.conn.execute("update subscription set disconnected_at = now()")


async def _young(bench: Bench, event: int) -> None:
    await bench.conn.execute("update event set created_at = now() - interval '29 days' where id = $1", event)


CASES: dict[str, tuple[Setup, int]] = {
    "nobody is there": (lambda bench: asyncio.sleep(0), 150),
    "its last event is not old enough": (lambda bench: _young(bench, 149), 100),
    "what lies behind one that stays, stays": (lambda bench: _young(bench, 99), 50),
    "caught up": (lambda bench: bench.subscribe(), 150),
    "behind in one shard": (lambda bench: bench.subscribe({2: 70}), 50),
    "behind at the last event but one": (lambda bench: bench.subscribe({4: 144}), 100),
    "just past it": (lambda bench: bench.subscribe({4: 149}), 150),
    "foreign events count until they are passed": (lambda bench: bench.subscribe({4: 99}), 100),
    "an idle shard has an old cursor and nothing to say": (lambda bench: bench.subscribe({7: 3, 8: 0, 9: 60}), 150),
    "the slowest decides": (_two, 50),
    "a parked lane": (lambda bench: _parked(bench, 121), 100),
    "a lane that is held": (lambda bench: _parked(bench, 51, "held"), 50),
    "a lane parked later": (lambda bench: _parked(bench, 151), 150),
    "a replay": (lambda bench: _replaying(bench, 49), 50),
    "a replay of little": (lambda bench: _replaying(bench, 20, upto=30), 0),
    "a replay that has come to its end": (lambda bench: _replaying(bench, 30, upto=30), 150),
    "a replay that was cancelled": (lambda bench: _replaying(bench, 20, ended="cancelled"), 150),
    "a replay that is finished": (lambda bench: _replaying(bench, 20, ended="finished"), 150),
    "a replay further on": (lambda bench: _replaying(bench, 155), 150),
    "paused": (lambda bench: bench.subscribe(20, state="paused"), 150),
    "paused, with a parked lane": (lambda bench: _parked(bench, 21, state="paused"), 150),
    "paused, with a replay": (lambda bench: _replaying(bench, 20, state="paused"), 150),
    "on the pull feed alone": (lambda bench: bench.subscribe(20, endpoint=None), 150),
    "disconnected": (_disconnected, 150),
}


@pytest.mark.parametrize("case", CASES)
async def test_h6_a_partition_goes_when_all_of_it_is_old_and_no_active_subscription_needs_it(
    bench: Bench, case: str
) -> None:
    setup, start = CASES[case]
    await setup(bench)
    assert await bench.round() == []
    assert await bench.start() == start
    assert HELD_BACK._value.get() == (0 if "old enough" in case or "lies behind" in case else (150 - start) // SIZE)
    assert await bench.round() == []
    assert await bench.start() == start


async def test_h6_it_goes_as_soon_as_it_is_needed_no_more(bench: Bench) -> None:
    subscription = await bench.subscribe({2: 70})
    for position, start in ((70, 50), (97, 100), (142, 100), (147, 150)):
        await bench.conn.execute(
            "update cursor set position = $2 where subscription_id = $1 and shard = 2", subscription, position
        )
        assert await bench.round() == []
        assert await bench.start() == start


async def test_h6_age_is_the_setting_s(bench: Bench) -> None:
    assert await bench.round(event_days=41) == []
    assert await bench.start() == 0
    assert await bench.round(event_days=39) == []
    assert await bench.start() == 150


@pytest.mark.parametrize(("young", "start"), [(False, 150), (True, 50)])
async def test_h6_a_range_that_was_never_used_is_as_old_as_what_follows_it(
    bench: Bench, young: bool, start: int
) -> None:
    """Ids are drawn before they are used: those of a range that is empty may be on their way."""
    await bench.conn.execute("delete from event where id between 50 and 99")
    if young:
        await bench.conn.execute("update event set created_at = now() where id >= 100")
    assert await bench.round() == []
    assert await bench.conn.fetchval("select min(low::bigint) from partitions_of('event')") == start


# Who is left behind -------------------------------------------------------------------------------------------------


async def test_h6_a_paused_subscription_is_told_once_and_goes_on_behind_what_is_gone(bench: Bench) -> None:
    subscription = await bench.subscribe({0: 100, 1: 41, 2: 97, 3: 73, 4: 12, 20: 5}, state="paused")
    service = await bench.conn.fetchval("select service_id from subscription")
    before = EXPIRED._value.get()
    assert await bench.round() == []
    assert await bench.told() == [(41, 149)]  # shards 4 and 20 are behind, with nothing in them for this one
    assert await bench.positions(subscription) == {149, LAST}
    event = await bench.conn.fetchrow("select * from event where type = 'subscription.expired'")
    assert (event["channel_id"], event["audience"], event["conversation_id"]) == (bench.channel, [service], None)
    said = f'"after_event_id":"{event_id(41)}","upto_event_id":"{event_id(149)}"'
    assert said in event["data"]
    row = await bench.conn.fetchrow("select * from audit where action = 'subscription.expired'")
    assert row["actor"] == "hub"
    assert said in row["details"]

    for _ in range(2):
        assert await bench.round() == []
    assert await bench.told() == [(41, 149)]
    assert await bench.conn.fetchval("select count(*) from event where type = 'subscription.expired'") == 1
    assert EXPIRED._value.get() == before + 1

    await bench.conn.execute(RESUME)
    rows = await bench.conn.fetch("select shard, position from cursor")
    left = await event_log.list_after(bench.conn, {row["shard"]: row["position"] for row in rows}, 100)
    assert [e.id for e in left if e.type == "message.received"] == list(range(150, LAST + 1))


async def test_h6_one_pause_is_one_range_the_next_another(bench: Bench) -> None:
    subscription = await bench.subscribe(30, state="paused")
    assert await bench.round() == []
    await bench.conn.execute("update expired_range set noted_at = now() - interval '3 days'")
    await bench.conn.execute("update event set created_at = now() - interval '40 days' where id < 200")
    await bench.fill(LAST + 5, 240, 199)
    assert await bench.round() == []
    assert await bench.told() == [(30, 199)]
    expected = {(event_id(30), event_id(149)), (event_id(30), event_id(199))}
    rows = await bench.conn.fetch(
        "select data::json ->> 'after_event_id', data::json ->> 'upto_event_id' from event "
        "where type = 'subscription.expired' union select details::json ->> 'after_event_id', "
        "details::json ->> 'upto_event_id' from audit where action = 'subscription.expired'"
    )
    assert {tuple(row) for row in rows} <= expected
    assert (event_id(30), event_id(199)) in {tuple(row) for row in rows}

    await bench.conn.execute("update expired_range set noted_at = now() - interval '3 days'")
    await bench.conn.execute("update subscription set paused_at = now() - interval '1 day'")
    await bench.conn.execute("update cursor set position = 207 where subscription_id = $1", subscription)
    await bench.conn.execute("update event set created_at = now() - interval '40 days' where id < 250")
    await bench.fill(246, 260, 249)
    assert await bench.round() == []
    assert await bench.told() == [(30, 199), (207, 249)]


async def test_h6_who_loses_nothing_is_told_nothing(bench: Bench) -> None:
    """Foreign events, filtered ones, those for another audience, those delivered already."""
    await bench.conn.execute("update event set audience = $1 where shard = 1", [uuid4()])
    await bench.conn.execute("update event set type = 'message.status' where shard = 2")
    delivered = await bench.subscribe({0: 140}, state="paused", event_types=["message.received"])
    await bench.conn.execute("update cursor set done = '{145,150}' where shard = 0")
    quiet = await bench.subscribe({1: 20, 2: 20, 4: 20, 30: 1}, state="paused", event_types=["message.received"])
    pulling = await bench.subscribe(20, endpoint=None)
    assert await bench.round() == []
    assert await bench.told() == []
    assert await bench.conn.fetchval("select count(*) from event where type = 'subscription.expired'") == 0
    assert await bench.conn.fetchval("select count(*) from audit") == 0
    assert {tuple(row["done"]) for row in await bench.conn.fetch("select done from cursor")} == {(), (150,)}
    for subscription in (delivered, quiet, pulling):
        assert min(await bench.positions(subscription)) == 149


async def test_h6_parked_lanes_of_a_paused_one_begin_at_what_is_left_of_them(bench: Bench) -> None:
    """Their events are lost too, though the cursors had passed them."""
    subscription = await bench.subscribe(state="paused")
    await bench.park(subscription, 1, 61, "held")
    await bench.park(subscription, 2, 77)
    await bench.park(subscription, 3, 153)
    await bench.conn.execute("delete from event where shard = 2 and id >= 150")
    assert await bench.round() == []
    rows = await bench.conn.fetch(
        "select shard, first_event_id, attempts, next_attempt_at <= now() from parked_lane order by shard"
    )
    assert [tuple(row) for row in rows] == [(1, 151, 0, True), (3, 153, 3, False)]
    assert await bench.told() == [(60, 149)]


async def test_h6_replays_of_a_paused_one_go_on_behind_what_is_gone(bench: Bench) -> None:
    subscription = await bench.subscribe(state="paused")
    gone = await bench.replay(subscription, 20, upto=90)
    half = await bench.replay(subscription, 20, upto=170)
    assert await bench.round() == []
    rows = await bench.conn.fetch("select replay_id, position, finished_at is not null from replay_shard")
    assert {tuple(row) for row in rows} == {(gone, 90, True), (half, 149, False)}


async def test_h6_dead_letters_go_with_their_events(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PRUNE_BATCH", 20)
    for state in ("active", "paused"):
        subscription = await bench.subscribe(state=state)
        await bench.conn.execute(
            "insert into dead_letter (subscription_id, event_id, attempts) select $1, n, 10 "
            "from generate_series(1, 180) n",
            subscription,
        )
    assert await bench.round() == []
    rows = await bench.conn.fetch("select min(event_id), count(*) from dead_letter group by subscription_id")
    assert [tuple(row) for row in rows] == [(150, 31)] * 2


# In between ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["resumed", "resumed and paused again"])
async def test_h6_who_is_resumed_meanwhile_gets_what_is_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    subscription = await bench.subscribe(20, state="paused")
    listed, asked, looks = retention.list_laggards, retention.find_needed, itertools.count()

    async def resumed(conn: Any, upto: int) -> list[UUID]:
        laggards = await listed(conn, upto)
        await bench.conn.execute(RESUME)
        return laggards

    async def paused(conn: Any, upto: int, *, by_active: bool) -> int | None:
        if next(looks) and again:  # the last look
            await bench.conn.execute(PAUSE)
        return await asked(conn, upto, by_active=by_active)

    monkeypatch.setattr(retention, "list_laggards", resumed)
    monkeypatch.setattr(retention, "find_needed", paused)
    assert await bench.round() == []
    assert await bench.start() == 0
    assert await bench.told() == []
    assert await bench.positions(subscription) == {20}
    await bench.conn.execute(RESUME)
    async with bench.database.transaction() as conn:
        assert await expire(conn, subscription, 149, datetime.now(UTC)) == []


async def test_h6_what_somebody_chooses_meanwhile_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscription that starts at a time, a replay: whoever looks for a place in the log keeps it first."""
    monkeypatch.setattr(retention, "BE_IMPATIENT_SQL", "set lock_timeout = '50ms'")
    subscription = await bench.subscribe()
    async with bench.database.transaction() as conn:
        await retention.keep_log(conn)
        assert await bench.round() == ["drop_events"]
        await conn.execute("update cursor set position = 63 where subscription_id = $1 and shard = 3", subscription)
    assert await bench.round() == []
    assert await bench.start() == 50


async def test_h6_a_long_reader_keeps_what_it_sees_and_nobody_waits(
    bench: Bench, shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BE_IMPATIENT_SQL", "set lock_timeout = '200ms'")
    async with connected(shared_url) as reader:
        async with reader.transaction(isolation="repeatable_read"):
            assert await reader.fetchval("select count(*) from event") == LAST
            rounding = asyncio.create_task(bench.round())
            others = await asyncio.gather(*(_append(bench, 5) for _ in range(4)))
            assert await rounding == ["drop_events"]
            assert await reader.fetchval("select count(*) from event") == LAST
            assert await bench.conn.fetchval("select min(id) from event") == SIZE
            others += await asyncio.gather(*(_append(bench, 5) for _ in range(4)))
        assert await bench.round() == []
    assert await bench.conn.fetchval("select min(id) from event") == 150
    assert await bench.conn.fetchval("select to_regclass('event_0') is null")
    assert len({*itertools.chain(*others)}) == 40


async def test_h6_a_drop_that_was_cut_short_is_finished(bench: Bench) -> None:
    await bench.subscribe({1: 110})
    await bench.conn.execute("alter table event detach partition event_0 concurrently")
    await bench.conn.execute("create table event_log_of_mine (id integer)")
    assert await bench.round() == []
    tables = await bench.conn.fetch(
        "select relname from pg_class where relkind = 'r' and relname ~ '^event_' order by relname"
    )
    assert [row["relname"] for row in tables] == ["event_100", "event_150", "event_200", "event_log_of_mine"]


async def _append(bench: Bench, count: int) -> list[int]:
    drafts = [
        EventDraft("message.received", bench.lanes[n % 5], datetime.now(UTC), {}, channel_id=bench.channel)
        for n in range(count)
    ]
    async with bench.database.transaction() as conn:
        return [event.id for event in await event_log.append(conn, drafts)]


# Under load ---------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Eight writers, a subscriber that follows, one that is paused, and a janitor that never rests.

    Events are made old once every transaction that was open has ended: age is what tells that nobody writes there.
    """

    bench: Bench
    follower: UUID
    written: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    budget: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    turns: list[int] = field(default_factory=lambda: [0] * 8)
    granted: int = 0
    rounds: int = 0
    is_over: bool = False

    async def write(self, writer: int) -> None:
        """Append a few events at a time, as many as there is room for until the janitor comes again."""
        lanes = [lane((writer * 7 + n * 5) % 64) for n in range(9)]
        for turn in itertools.count():
            drafts = [
                EventDraft(
                    "message.received", lanes[(turn + n) % 9], datetime.now(UTC), {}, channel_id=self.bench.channel
                )
                for n in range(1 + (turn + writer) % 3)
            ]
            for _ in drafts:
                await self.budget.acquire()
            if self.is_over:
                return
            async with self.bench.database.transaction() as conn:
                self.written += [event.id for event in await event_log.append(conn, drafts)]
            self.turns[writer] += 1

    async def follow(self) -> None:
        """Read each shard behind its cursor, as a dispatcher does, and write the cursors down; stand still for four of
        the janitor's rounds, time and again.
        """
        positions = dict.fromkeys(range(64), LAST)
        events, was_over = [], False
        while events or not was_over:
            was_over = self.is_over
            while self.rounds % 8 < 4 and not self.is_over:
                await asyncio.sleep(0.005)
            async with self.bench.database.transaction() as conn:
                events = await event_log.list_after(conn, positions, 20)
                positions |= {event.shard: event.id for event in events}
                await conn.execute(
                    "update cursor c set position = p.position "
                    "from unnest($2::int[], $3::bigint[]) p (shard, position) "
                    "where c.subscription_id = $1 and c.shard = p.shard",
                    self.follower, list(positions), list(positions.values()),
                )  # fmt: skip
            self.seen += [event.id for event in events if event.type == "message.received"]
            await asyncio.sleep(0)

    async def age(self) -> None:
        """Make old what was drawn before every writer's last turn began."""
        async with connected(str(self.bench.database._connect()["dsn"])) as conn:
            while not self.is_over:
                last, before = await conn.fetchval("select last_value from event_id_seq"), list(self.turns)
                while not self.is_over and any(now <= then + 1 for now, then in zip(self.turns, before, strict=True)):
                    await asyncio.sleep(0.01)
                await conn.execute(
                    "update event set created_at = $2 where id <= $1 and created_at > $2",
                    last, datetime.now(UTC) - timedelta(days=40),
                )  # fmt: skip

    async def keep_house(self, partitions: int) -> list[str]:
        """Come by again and again until so many partitions are gone; gives the chores that failed."""
        failed, dropped = [], DROPPED.labels("event")._value
        until = dropped.get() + partitions
        while dropped.get() < until:
            unused = self.granted - len(self.written)
            failed += await self.bench.round()
            self.rounds += 1
            for _ in range(SIZE - 5 - unused):  # since partitions were made there is room for one of them, not for more
                self.granted += 1
                self.budget.release()
        self.is_over = True
        for _ in range(100):
            self.budget.release()
        return failed


async def test_h6_nothing_fails_and_nothing_is_missed_while_partitions_roll_and_drop(bench: Bench) -> None:
    paused = await bench.subscribe(LAST, state="paused")
    load = Load(bench, await bench.subscribe(LAST))
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for task in (load.follow(), load.age(), *(load.write(n) for n in range(8))):
            tasks.create_task(task)
        keeping = tasks.create_task(load.keep_house(10))
    assert keeping.result() == []
    assert sorted(load.seen) == sorted(load.written)
    start = await bench.conn.fetchval("select min(low::bigint) from partitions_of('event')")
    assert await bench.told() == [(LAST, start - 1)]
    assert min(await bench.positions(paused)) == start - 1
    kept = await bench.conn.fetch("select id from event where type = 'message.received'")
    assert {row["id"] for row in kept} == {n for n in load.written if n >= start}


# Attempts and the rest of history -----------------------------------------------------------------------------------


async def test_h6_attempts_go_by_the_day(bench: Bench) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for days in (14, 15, 16, 40):
        day = today - timedelta(days=days)
        await bench.conn.execute(
            "select make_partition('attempt', $1, $2, $3)",
            f"attempt_{day:%Y%m%d}", f"{day:%Y-%m-%d} 00:00:00+00", f"{day + timedelta(days=1):%Y-%m-%d} 00:00:00+00",
        )  # fmt: skip
    await bench.conn.execute(
        "insert into attempt (subscription_id, shard, event_id, at, outcome, duration_ms) "
        "select gen_random_uuid(), 1, 1, at, 'failed', 1 from unnest($1::timestamptz[]) at",
        [today - timedelta(days=days) for days in (40, 16, 15, 14, 1, 0)],
    )
    assert await bench.round() == []
    rows = await bench.conn.fetch("select at from attempt order by at")
    assert [row["at"] for row in rows] == [today - timedelta(days=days) for days in (14, 1, 0)]
    assert await bench.conn.fetchval("select count(*) from partitions_of('attempt')") == 1 + 9
    assert PARTITIONS.labels("attempt")._value.get() == 10
    assert PARTITION_BYTES.labels("event")._value.get() > 0


async def test_h6_history_goes_in_batches_but_not_what_a_restart_needs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PRUNE_BATCH", 10)
    monkeypatch.setattr(retention, "REPLAY_BATCH", 2)
    active, paused = await bench.subscribe(), await bench.subscribe(state="paused")
    await bench.conn.execute(
        "insert into delivered (owner, at, entries) select 1, now() - make_interval(days => 50 - n), $1 "
        "from generate_series(1, 50) n",
        pack([]),
    )
    for replay in [await bench.replay(active, 20, ended="finished") for _ in range(5)]:
        await bench.conn.execute("update replay_shard set finished_at = now() - interval '31 days'")
        await bench.conn.execute("update replay set created_at = now() - interval '32 days' where id = $1", replay)
    young = await bench.replay(active, 20, ended="finished")
    running = await bench.replay(paused, 160)
    await bench.conn.execute("update replay set created_at = now() - interval '32 days'")
    for subscription in (active, paused):
        await bench.conn.execute(
            "insert into expired_range (subscription_id, after_event_id, upto_event_id, noted_at) "
            "select $1::uuid, 1, 2, now() - make_interval(days => n) from unnest(array[32, 29]) n "
            "union all select $1, 1, 2, now() - interval '50 days' from generate_series(1, 25)",
            subscription,
        )

    await bench.conn.execute("update shard_lease set checkpoint = case when shard = 5 then 25 else 50 end")
    assert await bench.round() == []
    assert await bench.conn.fetchval("select min(id) from delivered") == 26
    await bench.conn.execute("update shard_lease set checkpoint = 50")
    assert await bench.round() == []
    assert await bench.conn.fetchval("select min(id) from delivered") == 50 - 14 + 1
    assert {row["id"] for row in await bench.conn.fetch("select id from replay")} == {young, running}
    assert {row["replay_id"] for row in await bench.conn.fetch("select replay_id from replay_shard")} == {
        young,
        running,
    }
    rows = await bench.conn.fetch(
        "select state, extract(day from now() - noted_at)::int from expired_range r "
        "join subscription u on u.id = r.subscription_id order by 1, 2"
    )
    assert [tuple(row) for row in rows] == [("active", 29), ("paused", 29), ("paused", 32)]


# Clicks and visits --------------------------------------------------------------------------------------------------

LINK, OTHER = UUID(int=1), UUID(int=2)
MIA, BEN, LEA = UUID(int=11), UUID(int=12), UUID(int=13)
TOTALS = """
select link_id, kind, clicks, visitors, first_at::date, last_at::date from click_total order by link_id, kind"""
UNIQUE = """
select (select coalesce(sum(visitors), 0) from click_total where link_id = $1 and kind = 'person')
     + (select count(distinct coalesce(visitor_id, link_id)) from click where link_id = $1 and counts)"""


async def click_days(bench: Bench, *ago: int) -> None:
    """Partitions for days past."""
    for table in ("click", "click_origin", "web_event"):
        for days in ago:
            day = today() - timedelta(days=days)
            bounds = f"{day:%Y-%m-%d} 00:00:00+00", f"{day + timedelta(days=1):%Y-%m-%d} 00:00:00+00"
            await bench.conn.execute(
                "select make_partition($1::text::regclass, $2, $3, $4)", table, f"{table}_{day:%Y%m%d}", *bounds
            )


async def click(
    bench: Bench, ago: int, visitor: UUID | None = None, *, link: UUID = LINK, kind: str = "person", hours: int = 1
) -> None:
    """A request to a link at this hour of a day past."""
    await bench.conn.execute(
        "insert into click (id, at, link_id, kind, reason, counts, visitor_id) "
        "values (gen_random_uuid(), $1, $2, $3, $3, $4, $5)",
        today() - timedelta(days=ago, hours=-hours), link, kind, kind == "person", visitor,
    )  # fmt: skip


async def links(bench: Bench) -> None:
    """Two links."""
    for link in (LINK, OTHER):
        await bench.conn.execute(
            "insert into tracked_link (id, token_hash, target, created_at) values ($1, $2, 'x', now())",
            link, link.bytes,
        )  # fmt: skip


def today() -> datetime:
    """The day's beginning."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def names(bench: Bench, table: str) -> list[str]:
    """The tables that are partitions of another, or were."""
    rows = await bench.conn.fetch("select relname from pg_class where relname ~ $1 order by 1", f"^{table}_[0-9]+$")
    return [row["relname"] for row in rows]


async def test_h6_clicks_are_counted_when_their_day_goes(bench: Bench) -> None:
    await click_days(bench, 59, 61, 62, 63)
    await links(bench)
    for ago, visitor in ((63, MIA), (63, MIA), (63, BEN), (62, MIA), (62, None), (61, None), (61, LEA), (59, BEN)):
        await click(bench, ago, visitor)
    await click(bench, 61, kind="preview")
    await click(bench, 61, link=OTHER, kind="preview", visitor=MIA)
    await click(bench, 61, link=UUID(int=3))  # of a link that is gone
    await bench.conn.execute("set timezone = 'UTC'")
    unique = await bench.conn.fetchval(UNIQUE, LINK)
    assert unique == 4
    before = DROPPED.labels("click")._value.get()
    for _ in range(2):
        assert await bench.round() == []
        first, last = today().date() - timedelta(days=63), today().date() - timedelta(days=61)
        assert [tuple(row) for row in await bench.conn.fetch(TOTALS)] == [
            (LINK, "person", 7, 3, first, last),
            (LINK, "preview", 1, 0, last, last),
            (OTHER, "preview", 1, 0, last, last),
        ]
        assert await bench.conn.fetchval("select count(*) from click") == 1
        assert await bench.conn.fetchval(UNIQUE, LINK) == unique  # BEN is there still, and counted when that goes
    assert DROPPED.labels("click")._value.get() == before + 3
    assert len(await names(bench, "click")) == 1 + 9
    assert PARTITIONS.labels("click")._value.get() == 1 + 9


@pytest.mark.parametrize("step", ["detach", "finalize", "count", "commit"])
async def test_h6_clicks_are_counted_once_wherever_the_janitor_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await click_days(bench, 61, 62)
    await links(bench)
    for ago in (61, 62):
        for visitor in (MIA, BEN):
            await click(bench, ago, visitor)
    calls = itertools.count()

    class Killed(BaseException):
        pass

    async def dies(*_: Any) -> None:
        raise Killed

    if step == "finalize":  # it was cut short while it waited for somebody who reads
        async with connected(bench.url) as other, other.transaction():
            await other.fetch("select * from click")
            assert await bench.round() == ["drop_clicks"]
    else:
        real = click_totals.count_and_drop

        async def count_and_die(conn: Any, name: str) -> None:
            if step == "commit" or next(calls):
                await real(conn, name)
            raise Killed

        monkeypatch.setattr(click_totals, "count_and_drop", dies if step == "detach" else count_and_die)
        with pytest.raises(Killed):
            await bench.round()
        monkeypatch.undo()
        monkeypatch.setattr(retention, "SMALLEST", SIZE)
        monkeypatch.setattr(retention, "BIGGEST", SIZE)
        assert await bench.conn.fetchval("select count(*) from click_total") == 0
        assert len(await names(bench, "click")) == 2 + 9
    assert await bench.round() == []
    assert [tuple(row)[1:4] for row in await bench.conn.fetch(TOTALS)] == [("person", 4, 2)]
    assert len(await names(bench, "click")) == 9


async def test_h6_networks_and_visits_go_by_the_day(bench: Bench) -> None:
    await click_days(bench, 6, 7, 8, 89, 90, 91, 92)
    await bench.conn.execute(
        "insert into click_origin (click_id, at, prefix) select gen_random_uuid(), at, '203.0.113.0/24' "
        "from unnest($1::timestamptz[]) at",
        [today() - timedelta(days=days) for days in (6, 7, 8, 89, 91, 0)],
    )
    await bench.conn.execute(
        "insert into web_event (id, at, received_at, type, session, site, url) "
        "select gen_random_uuid(), at, at, 'page', 's', 'shop.example', '/' from unnest($1::timestamptz[]) at",
        [today() - timedelta(days=days) for days in (6, 89, 90, 91, 92, 0)],
    )
    assert await bench.round() == []
    rows = await bench.conn.fetch("select at from click_origin order by at")
    assert [row["at"] for row in rows] == [today() - timedelta(days=days) for days in (7, 6, 0)]
    rows = await bench.conn.fetch("select at from web_event order by at")
    assert [row["at"] for row in rows] == [today() - timedelta(days=days) for days in (90, 89, 6, 0)]
    assert {PARTITIONS.labels(table)._value.get() for table in ("click_origin", "web_event")} == {11, 14}


async def test_h6_what_browsers_left_behind_is_forgotten_but_not_who_was_somebody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale_visits, "PRUNE_BATCH", 10)
    await bench.conn.execute("""
        insert into page_receipt (receipt_hash, visitor_id, is_key, is_returning, kind, session, started_at,
                                  received_at)
        select n::text::bytea, gen_random_uuid(), false, true, 'load', 's', now(),
               now() - case when n <= 25 then interval '25 hours' else interval '23 hours' end
        from generate_series(1, 30) n;
        insert into used_token select n::text::bytea, now() + case when n <= 25 then '-1 s' else interval '1 min' end
        from generate_series(1, 30) n;
        insert into visitor (id, created_at, seen_at)
        select lpad(n::text, 32, '0')::uuid, now() - interval '800 days',
               now() - case when n <= 25 then interval '401 days' else interval '399 days' end
        from generate_series(1, 30) n;
        insert into landing (click_id, visitor_id, link_id, session, click_at, landed_at, outcome, reason)
        select gen_random_uuid(), lpad(n::text, 32, '0')::uuid, gen_random_uuid(), 's', now(), now(), 'anonymous', 'x'
        from generate_series(1, 30) n;
        insert into visitor_twin
        select lpad(n::text, 32, '0')::uuid, lpad((n + 1)::text, 32, '0')::uuid from generate_series(1, 29) n;
        insert into visitor_binding (id, visitor_id, contact_id, period, trust, bound_at, retracted_at)
        select gen_random_uuid(), lpad(n::text, 32, '0')::uuid, (select id from contact limit 1), '[now,)', 1, now(),
               case when n = 3 then now() end
        from generate_series(2, 3) n""")
    assert await bench.round() == []
    assert await bench.conn.fetchval("select count(*) from page_receipt") == 5
    assert await bench.conn.fetchval("select count(*) from used_token") == 5
    kept = [*range(2, 4), *range(26, 31)]
    rows = await bench.conn.fetch("select id from visitor order by id")
    assert [int(row["id"].hex) for row in rows] == kept
    rows = await bench.conn.fetch("select visitor_id from landing order by 1")
    assert [int(row["visitor_id"].hex) for row in rows] == kept
    rows = await bench.conn.fetch("select visitor_id, twin_id from visitor_twin order by 1")
    assert [(int(a.hex), int(b.hex)) for a, b in rows] == [(2, 3), (26, 27), (27, 28), (28, 29), (29, 30)]
