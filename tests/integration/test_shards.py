"""Leased and fenced shards: shared fairly, taken from the dead, and useless to who was taken for dead (the engine)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from hub.store import leases
from hub.store.deliveries import CursorRow, Delivered, Progress, record_progress
from tests.support.wire import ask

Conn: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
LONG = 60.0


@pytest.fixture
async def conns(database_url: str) -> AsyncIterator[list[Conn]]:
    """Connections of processes, each its own."""
    async with AsyncExitStack() as stack:
        made = [await asyncpg.connect(database_url) for _ in range(8)]
        for conn in made:
            stack.push_async_callback(conn.close)
        yield made


async def owners(database_url: str) -> dict[int, int]:
    """How many shards each dispatcher has."""
    sql = "select json_object_agg(coalesce(owner, 0), n) from (select owner, count(*) n from shard_lease group by 1) x"
    return {int(owner): n for owner, n in json.loads(await ask(database_url, sql)).items()}


async def rounds(conns: dict[int, Conn], lease: float = LONG, count: int = 4) -> dict[int, leases.Holding]:
    """Some rounds in which each keeps what it has and gives away what is too much."""
    found = {}
    for _ in range(count):
        for number, conn in conns.items():
            found[number] = await leases.keep(conn, number, lease)
            surplus = sorted(found[number].epochs)[found[number].fair_share :]
            if surplus:
                await leases.release(conn, number, surplus)
    return found


async def join(conns: list[Conn], lease: float = LONG) -> dict[int, Conn]:
    return {await leases.join(conn, lease): conn for conn in conns}


@pytest.mark.parametrize(
    ("processes", "shares"), [(1, [64]), (2, [32, 32]), (3, [20, 22, 22]), (5, [12, 13, 13, 13, 13])]
)
async def test_shards_are_shared_fairly(
    database_url: str, conns: list[Conn], processes: int, shares: list[int]
) -> None:
    members = await join(conns[:processes])
    await rounds(members)
    assert sorted((await owners(database_url)).values()) == shares


async def test_all_at_once_no_shard_has_two_owners_and_none_has_none(database_url: str, conns: list[Conn]) -> None:
    members = await join(conns)

    async def live(number: int, conn: Conn) -> None:
        for _ in range(10):
            await rounds({number: conn}, count=1)

    await asyncio.gather(*(live(number, conn) for number, conn in members.items()))
    found = await rounds(members)
    held = [shard for holding in found.values() for shard in holding.epochs]
    assert sorted(held) == list(range(64))
    assert set((await owners(database_url)).values()) == {8}


async def test_the_shards_of_a_killed_process_are_taken_at_once(database_url: str, conns: list[Conn]) -> None:
    """Its lease is not over, but its session is: the server knows."""
    members = await join(conns[:2])
    await rounds(members)
    (dead, dead_conn), (alive, conn) = members.items()
    dead_conn.terminate()
    async with asyncio.timeout(5):
        while (await owners(database_url)).get(alive) != 64:
            await leases.keep(conn, alive, LONG)
    assert dead not in await owners(database_url)


async def test_the_shards_of_a_stopped_process_are_taken_once_its_lease_is_over(
    database_url: str, conns: list[Conn]
) -> None:
    members = await join(conns[:2])
    await rounds(members)
    (stopped, stopped_conn), (alive, conn) = members.items()
    await leases.keep(conn, alive, LONG)
    assert (await owners(database_url))[stopped] == 32
    await leases.keep(stopped_conn, stopped, 0.0)  # over at once
    assert len((await leases.keep(conn, alive, LONG)).epochs) == 64
    with pytest.raises(leases.GivenUp):
        await leases.keep(stopped_conn, stopped, LONG)


async def test_who_wakes_after_its_lease_can_write_nothing(database_url: str, conns: list[Conn]) -> None:
    """Fails when the check of owner and epoch is taken out of `record_progress` (tried: all of it is written)."""
    subscription = await one_subscription(conns[2])
    members = await join(conns[:2])
    found = await rounds(members)
    (stopped, stopped_conn), (alive, conn) = members.items()
    mine = found[stopped].epochs
    shard = min(mine)
    progress = Progress(
        delivered=[Delivered(subscription, shard, 5, 200, 1)],
        cursors={(subscription, shard): CursorRow(subscription, shard, 5, [])},
    )
    await leases.keep(stopped_conn, stopped, 0.0)
    taken = await leases.keep(conn, alive, LONG)
    assert taken.epochs[shard] == mine[shard] + 1
    assert await record_progress(stopped_conn, stopped, mine, progress) == [shard]
    assert await ask(database_url, "select max(position) from cursor") == 0
    assert await ask(database_url, "select count(*) from delivered") == 0
    # The new owner does not know it either under the old epoch: its own writes count from its own time.
    assert await record_progress(conn, alive, mine, progress) == [shard]
    assert await record_progress(conn, alive, taken.epochs, progress) == []
    assert await ask(database_url, "select max(position) from cursor") == 5


async def test_nobody_gets_between_the_check_and_the_write(database_url: str, conns: list[Conn]) -> None:
    """A flush is under way: the shard cannot change hands before it is done."""
    subscription = await one_subscription(conns[2])
    members = await join(conns[:2])
    found = await rounds(members)
    (late, late_conn), (alive, conn) = members.items()
    shard = min(found[late].epochs)
    await leases.keep(late_conn, late, 0.0)
    progress = Progress(cursors={(subscription, shard): CursorRow(subscription, shard, 7, [])})
    async with late_conn.transaction():
        assert await record_progress(late_conn, late, found[late].epochs, progress) == []
        assert len((await leases.keep(conn, alive, LONG)).epochs) == 32
    assert len((await leases.keep(conn, alive, LONG)).epochs) == 64
    assert await ask(database_url, "select max(position) from cursor") == 7


async def test_who_leaves_leaves_everything(database_url: str, conns: list[Conn]) -> None:
    members = await join(conns[:2])
    await rounds(members)
    (leaver, leaver_conn), (stays, conn) = members.items()
    await leases.leave(leaver_conn, leaver)
    assert len((await leases.keep(conn, stays, LONG)).epochs) == 64
    assert await ask(database_url, "select array_agg(id) from dispatcher") == [stays]


async def one_subscription(conn: Conn) -> UUID:
    """A subscription with its cursors at the beginning."""
    subscription, service, channel = uuid4(), uuid4(), uuid4()
    number = await conn.fetchval("insert into number (e164) values ('+15550009999') returning id")
    await conn.execute("insert into service (id, name, plan, scopes) values ($1, 'one', 'bundle', '{}')", service)
    await conn.execute("insert into channel (id, number_id, kind) values ($1, $2, 'shared')", channel, number)
    await conn.execute(
        "insert into subscription (id, channel_id, service_id) values ($1, $2, $3)", subscription, channel, service
    )
    await conn.execute("insert into cursor select $1, n, 0 from generate_series(0, 63) n", subscription)
    return subscription
