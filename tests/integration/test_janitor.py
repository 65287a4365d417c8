"""The janitor: partitions without standing in anybody's way, prunes that get to the end, chores that fail alone."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from hub.domain.errors import Unavailable
from hub.store import inbound, retention
from hub.store.pool import Database
from hub.workers import janitor
from hub.workers.janitor import Janitor
from tests.support.wire import LOCKS_HERE, ask, connected, until

PARTITIONS = "select count(*) from pg_inherits where inhparent = $1::text::regclass"
INSERT = "insert into event (id, shard, prev_id, type, data, created_at) values ($1, 0, 0, 'x', '{}', now())"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(lambda: {"dsn": database_url})
    await made.open()
    yield made
    await made.close()


@asynccontextmanager
async def keeping_house(database: Database) -> AsyncIterator["asyncio.Task[None]"]:
    janitor = Janitor(database, inbound_key_days=30, event_retention_days=30, attempt_retention_days=14)
    task = asyncio.create_task(janitor.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def make_partitions(database: Database) -> None:
    owner = await database.dedicated()
    try:
        async with owner.transaction() as conn:
            await retention.make_partitions(conn)
    finally:
        await owner.close()


# Partitions ---------------------------------------------------------------------------------------------------------


async def test_partitions_are_made_while_somebody_reads_and_writers_go_on(
    database_url: str, database: Database
) -> None:
    """A dump, or a long report, is no reason to stop taking webhooks in."""
    before = await ask(database_url, PARTITIONS, "event")
    await ask(database_url, "select setval('event_id_seq', 3500000)")
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(connected(database_url))
        writer = await stack.enter_async_context(connected(database_url))
        await stack.enter_async_context(reader.transaction(isolation="repeatable_read"))
        await reader.fetch("select * from event, attempt")
        making = asyncio.create_task(make_partitions(database))
        longest = 0.0
        for n in range(1, 51):
            before_one = time.perf_counter()
            await writer.execute(INSERT, n)
            longest = max(longest, time.perf_counter() - before_one)
        await asyncio.wait_for(making, 4)
        await writer.execute(INSERT, 4_500_000)
        assert longest < 0.5
    assert await ask(database_url, PARTITIONS, "event") == before + 2


async def test_partitions_give_up_soon_where_a_lock_is_not_to_be_had_and_come_the_next_round(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "INTERVAL", 0.05)
    await ask(database_url, "select setval('event_id_seq', 3500000)")
    await ask(database_url, "insert into inbound_key values ('old', now() - interval '31 days')")
    made = "select count(*) from pg_inherits where inhrelid = to_regclass('event_2000000')"
    pruned = "select count(*) = 0 from inbound_key"
    async with connected(database_url) as other, keeping_house(database) as task:
        async with other.transaction():
            await other.execute("lock table event in share update exclusive mode")
            await until(lambda: ask(database_url, pruned))  # the other chores are done all the same
            async with connected(database_url) as writer:
                before = time.perf_counter()
                await writer.execute(INSERT, 1)
                assert time.perf_counter() - before < 0.5
            assert await ask(database_url, made) == 0
        await until(lambda: ask(database_url, made))
        assert not task.done()


async def test_partitions_may_be_made_by_many_at_once_and_again(database_url: str, database: Database) -> None:
    await ask(database_url, "select setval('event_id_seq', 7999999)")
    await asyncio.gather(*(make_partitions(database) for _ in range(6)))
    shape = "select array_agg(c.relname || pg_get_expr(c.relpartbound, c.oid) order by c.relname) from pg_class c"
    shape += " where relispartition and relkind = 'r'"
    first = await ask(database_url, shape)
    assert sum(part.startswith("event_") for part in first) == 2 + 2
    await make_partitions(database)
    assert await ask(database_url, shape) == first
    async with connected(database_url) as conn:
        await conn.execute(INSERT, 8_500_000)
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(INSERT, 8_500_000)
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute("update event set shard = 64")


BOUNDS = "select low::bigint, high::bigint from partitions_of('event') order by low::bigint"
AT = "insert into event (id, shard, prev_id, type, data, created_at) values ($1, 0, 0, 'x', '{}', now() - $2::interval)"


@pytest.mark.parametrize(
    ("used", "biggest", "size"),
    [(10, 10**9, 1_000_000), (999_000, 10**9, 1_000_000), (1_500_000, 10**9, 1_500_000), (1_500_000, 10**6, 10**6)],
)
async def test_the_next_partition_holds_a_day_of_the_traffic_within_limits(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, used: int, biggest: int, size: int
) -> None:
    monkeypatch.setattr(retention, "BIGGEST", biggest)
    last = 1_700_000
    async with connected(database_url) as conn:
        await conn.execute("select setval('event_id_seq', $1)", last)
        await conn.execute(AT, last - used, timedelta(days=2))
        await conn.execute(AT, last - used + 1, timedelta(hours=23))
        await make_partitions(database)
        bounds = [tuple(row) for row in await conn.fetch(BOUNDS)]
    assert bounds == [(0, 1_000_000), (1_000_000, 2_000_000), (2_000_000, 2_000_000 + size)]


async def test_one_whole_partition_is_ahead_whatever_happened_and_there_is_no_gap(
    database_url: str, database: Database
) -> None:
    last, steps = 1, random.Random(7)
    async with connected(database_url) as conn:
        for _ in range(12):
            last += int(10 ** steps.uniform(1, 7.5))
            await conn.execute("select setval('event_id_seq', $1)", last)
            await make_partitions(database)
            bounds = [tuple(row) for row in await conn.fetch(BOUNDS)]
            assert bounds[-1][0] > last
            assert all(high - low >= 1_000_000 for low, high in bounds)
            assert [low for low, _ in bounds] == [0, *(high for _, high in bounds[:-1])]
        assert len(bounds) < 20


INDEXES = "select count(*) from pg_index where indrelid = $1::text::regclass"
SHAPE = """
select (select array_agg(attname || atttypid::text || attnotnull::text order by attname) from pg_attribute
        where attrelid = $1::text::regclass and attnum > 0),
       (select count(*) from pg_index where indrelid = $1::text::regclass),
       (select array_agg(pg_get_constraintdef(oid) order by pg_get_constraintdef(oid)) from pg_constraint
        where conrelid = $1::text::regclass)"""
ATTACHED = """
select count(*) from pg_inherits i join pg_index x on x.indexrelid = i.inhrelid
where x.indrelid = $1::text::regclass"""


async def test_a_partition_is_like_its_parent(database_url: str) -> None:
    async with connected(database_url) as conn:
        assert await conn.fetchrow(SHAPE, "event_1") == await conn.fetchrow(SHAPE, "event")
        assert await conn.fetchval(ATTACHED, "event_1") == await conn.fetchval(INDEXES, "event") > 2
        days = [row[0] for row in await conn.fetch("select inhrelid::regclass::text from pg_inherits")]
        day = next(name for name in days if name.startswith("attempt_2") and "_idx" not in name)
        assert await conn.fetchrow(SHAPE, day) == await conn.fetchrow(SHAPE, "attempt")
        assert await conn.fetchval(ATTACHED, day) == await conn.fetchval(INDEXES, "attempt") > 0


# Prunes -------------------------------------------------------------------------------------------------------------


async def test_prunes_get_to_the_end_in_one_round(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound, "PRUNE_BATCH", 10)
    async with connected(database_url) as conn:
        await conn.execute("""
            insert into service (id, name, plan, scopes) values (gen_random_uuid(), 'x', 'bundle', '{}');
            insert into inbound_key select n::text::bytea, now() - interval '31 days' from generate_series(1, 35) n;
            insert into inbound_key select n::text::bytea from generate_series(36, 40) n;
            insert into idempotency_key select id, 'r', n::text, '', 200, '', now() - interval '25 hours'
            from service, generate_series(1, 35) n;
            insert into idempotency_key select id, 'r', n::text, '', 200, '' from service, generate_series(36, 40) n;
            insert into orphan_status (provider, provider_id, reported, received_at)
            select 'meta', n::text, 'read', now() - case when n <= 35 then interval '31 days' else '29 days' end
            from generate_series(1, 40) n""")
    left = "select array[(select count(*) from inbound_key), (select count(*) from idempotency_key), "
    left += "(select count(*) from orphan_status)]"

    async def is_done() -> bool:
        return bool(await ask(database_url, left) == [5, 5, 5])

    async with keeping_house(database):
        await until(is_done)


async def test_old_keys_are_found_by_index(database_url: str) -> None:
    plan = """explain select key from inbound_key where at < now() - interval '30 days' limit 5000"""
    async with connected(database_url) as conn:
        await conn.execute("set enable_seqscan = off")
        lines = [row[0] for row in await conn.fetch(plan)]
        options = await conn.fetchval("select reloptions from pg_class where relname = 'inbound_key_age'")
    assert any("inbound_key_age" in line for line in lines), lines
    assert options == ["autosummarize=on"]


@pytest.mark.parametrize(
    "broken",
    [
        "drop function make_partitions",
        "drop function partitions_of",
        "alter table idempotency_key rename to gone",
        "drop table orphan_status",
    ],
)
async def test_a_chore_that_fails_does_not_stop_the_others(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(janitor, "INTERVAL", 0.05)
    await ask(database_url, broken)
    janitor.QUARANTINE.set(7)
    async with keeping_house(database) as task:
        for n in range(2):  # in the next round, too
            await ask(database_url, "insert into inbound_key values ($1, now() - interval '31 days')", b"%d" % n)
            await until(lambda: ask(database_url, "select count(*) = 0 from inbound_key"))
        await until(lambda: janitor.QUARANTINE._value.get() == 0)
        assert not task.done()


async def test_a_janitor_without_a_connection_ends_to_be_started_again(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lost the connection has lost the ownership."""
    monkeypatch.setattr(janitor, "INTERVAL", 0.05)
    mine = f"from {LOCKS_HERE} where locktype = 'advisory' and classid = 7003 and objid = 3 and granted"
    async with keeping_house(database) as task:
        await until(lambda: ask(database_url, f"select count(*) {mine}"))
        await ask(database_url, f"select pg_terminate_backend(pid) {mine}")
        await until(task.done)
        assert isinstance(task.exception(), Unavailable)


# Locks --------------------------------------------------------------------------------------------------------------


async def test_a_provider_s_id_never_meets_a_role(database_url: str) -> None:
    async with connected(database_url) as conn, conn.transaction():
        await inbound.lock_provider_ids(conn, ["wamid.1", "wamid.2"])
        held = await conn.fetch(
            "select distinct classid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        )
    assert [row["classid"] for row in held] == [7004]
