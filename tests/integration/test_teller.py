"""Clicks are told exactly once (rule G2), however many processes tell and wherever one of them dies."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from hub.actions import tell_clicks as verb
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.domain.ids import new_id, public_id
from hub.store import event_log, untold
from hub.store.pool import Database
from hub.workers import teller
from hub.workers.teller import Teller
from tests.support.wire import connected

PEOPLE = 5
PREPARE = """
with n as (insert into number (e164) values ('+15550001111') returning id),
     s as (insert into service (id, name, plan, scopes)
           values (lpad('1', 32, '0')::uuid, 'shop', 'bundle', '{read,profiles}') returning id),
     c as (insert into channel (id, number_id, kind) select s.id, n.id, 'shared' from n, s returning id, number_id),
     u as (insert into subscription (id, channel_id, service_id) select c.id, c.id, c.id from c returning id),
     p as (insert into contact (id) select lpad(x::text, 32, '0')::uuid from generate_series(1, 5) x returning id)
insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
select p.id, c.number_id, c.id, 'sms', p.id, 'phone', '+1' from p, c"""
LINKS = """
insert into tracked_link (id, token_hash, target, service_id, channel_id, conversation_id, message_id, contact_id,
                          created_at)
select v.id, convert_to(v.id::text, 'UTF8'), 'https://shop.example/', v.channel_id, v.channel_id, v.id, v.id,
       v.contact_id, now() from conversation v"""
CLICK = """
with made as (select * from unnest($1::uuid[], $2::uuid[]) as c (id, link_id)), untold as (
    insert into click_untold (click_id, at, link_id) select id, now(), link_id from made)
insert into click (id, at, link_id, kind, reason, counts)
select id, now(), link_id, 'person', 'person', true from made"""
TOLD = "select id, data from event where type = 'link.clicked' order by id"


@dataclass
class Bench:
    """Five people, each with a link; tellers note what they publish."""

    conn: "asyncpg.Connection[asyncpg.Record]"
    database: Database
    clicks: dict[str, str] = field(default_factory=dict)
    published: list[int] = field(default_factory=list)

    def teller(self) -> Teller:
        """Another process's."""
        return Teller(self.database, self.publish, "off")

    def publish(self, events: Any) -> None:
        """What a dispatcher would be handed."""
        self.published += [event.id for event in events]

    async def click(self, count: int) -> None:
        """People click, in one batch."""
        ids = [new_id() for _ in range(count)]
        links = [UUID(int=1 + n % PEOPLE) for n in range(count)]
        self.clicks |= {public_id("clk", a): public_id("cnv", b) for a, b in zip(ids, links, strict=True)}
        await self.conn.execute(CLICK, ids, links)

    async def check(self) -> None:
        """Every click was told once, in order, in its conversation; nothing waits."""
        rows = await self.conn.fetch(TOLD)
        told = [orjson.loads(row["data"]) for row in rows]
        assert [data["click"]["id"] for data in told] == sorted(self.clicks)
        assert {data["click"]["id"]: data["conversation"]["id"] for data in told} == self.clicks
        assert await self.conn.fetchval("select count(*) from click_untold") == 0
        assert set(self.published) <= {row["id"] for row in rows}
        assert len(set(self.published)) == len(self.published)


@pytest.fixture
async def bench(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(teller, "TOGETHER", 20)
    monkeypatch.setattr(teller, "LOOK", 0.01)
    database = Database(lambda: {"dsn": database_url})
    await database.open()
    async with connected(database_url) as conn:
        await conn.execute(PREPARE)
        await conn.execute(LINKS)
        yield Bench(conn, database)
    await database.close()


async def test_g2_several_at_once_tell_each_click_once_in_order(bench: Bench) -> None:
    tasks = [asyncio.create_task(bench.teller().run()) for _ in range(4)]
    for count in (1, 19, 20, 21, 150, 3, 100):
        await bench.click(count)
    async with asyncio.timeout(20):
        while len(bench.published) < len(bench.clicks):  # a moment after the commit
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await bench.check()
    assert len(bench.published) == len(bench.clicks)


async def test_g2_one_who_is_killed_told_all_of_a_batch_or_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection ends: before anything, after the clicks were taken, after the events were logged; others go on."""
    chance, real_append, real_take = random.Random(5), event_log.append, untold.take
    deaths = {"taken": 0, "logged": 0}

    async def dies(conn: Any, where: str) -> None:
        if chance.random() < 0.4:
            deaths[where] += 1
            await bench.conn.execute("select pg_terminate_backend($1)", await conn.fetchval("select pg_backend_pid()"))
            await conn.execute("select 1")

    async def take(conn: Any, limit: int) -> Any:
        rows = await real_take(conn, limit)
        await dies(conn, "taken")
        return rows

    async def append(conn: Any, drafts: Any) -> list[Event]:
        events = await real_append(conn, drafts)
        await dies(conn, "logged")
        return events

    monkeypatch.setattr(untold, "take", take)
    monkeypatch.setattr(verb.event_log, "append", append)
    await bench.click(130)
    async with asyncio.timeout(30):
        while await bench.conn.fetchval("select exists (select from click_untold)"):
            with suppress(Unavailable):
                await bench.teller().tell()
    assert min(deaths.values()) > 0, deaths
    await bench.check()


async def test_g2_who_is_not_in_turn_waits_for_nobody(bench: Bench, database_url: str) -> None:
    await bench.click(3)
    async with connected(database_url) as other, other.transaction():
        assert await untold.try_lock(other)
        async with asyncio.timeout(2):
            await bench.teller().tell()
        assert bench.published == []
    await bench.teller().tell()
    await bench.check()


async def test_clicks_are_found_by_index_and_a_backlog_is_told_of_in_batches(bench: Bench) -> None:
    for _ in range(5):
        await bench.click(100)
    await bench.conn.execute("analyze")
    lines = [row[0] for row in await bench.conn.fetch(f"explain {untold.TAKE_UNTOLD_SQL}", 20)]
    assert any("click_untold_pkey" in line for line in lines), lines
    await bench.teller().tell()
    await bench.check()
