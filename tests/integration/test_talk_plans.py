"""The console's lists of conversations, its overview and its hints read by index, however much there is."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from hub.domain.positions import SHARDS
from hub.store import console_sessions, pulse, standing, talks
from tests.support.wire import connected

FILL = """
insert into number (e164) select '+1555' || 1000000 + x from generate_series(1, 100) x;
insert into sender (number_id, medium, provider, external_id) select id, 'sms', 'twilio', e164 from number;
insert into service (id, name, plan, scopes)
select lpad(x::text, 32, '0')::uuid, 'service ' || x, 'bundle', '{read}' from generate_series(1, 100) x;
insert into channel (id, number_id, kind) select lpad(id::text, 32, '0')::uuid, id, 'shared' from number;
insert into subscription (id, channel_id, service_id)
select lpad((100 * c + s)::text, 32, '0')::uuid, lpad(c::text, 32, '0')::uuid, lpad(s::text, 32, '0')::uuid
from generate_series(1, 100) c, generate_series(1, 100) s where (c + s) % 20 = 0 or (c, s) = (100, 1);
insert into contact (id) select lpad(x::text, 32, '0')::uuid from generate_series(1, 20000) x;
insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
select lpad(x::text, 32, '0')::uuid, 1 + x % 100, lpad((1 + x % 100)::text, 32, '0')::uuid, 'sms',
       lpad(x::text, 32, '0')::uuid, 'phone', '+1'
from generate_series(1, 20000) x;
insert into event (id, shard, prev_id, type, number_id, channel_id, conversation_id, sequence, data, created_at)
select x, x % 64, 0, 'message.received', 1 + (x + 1) % 100, lpad((1 + (x + 1) % 100)::text, 32, '0')::uuid,
       lpad((1 + x % 20000)::text, 32, '0')::uuid, x, '{}', now()
from generate_series(0, 59999) x;
insert into api_key (id, service_id, secret_hash, hint)
select id, id, decode(replace(id::text, '-', ''), 'hex'), 'x' from service;
insert into console_session (token_hash, key_id, csrf, expires_at)
select decode(lpad(to_hex(x), 64, '0'), 'hex'), lpad((1 + x % 100)::text, 32, '0')::uuid, 'c', now() + '8 h'
from generate_series(1, 20000) x;
insert into pickup (conversation_id, service_id, agent_id, since, expires_at)
select lpad(x::text, 32, '0')::uuid, lpad('1', 32, '0')::uuid, 'ana', now(), now() + x % 2 * interval '15 min'
from generate_series(1, 200) x;
insert into traffic (step, at, channel_id, service_id, received, accepted, webhooks)
select 600, date_bin('10 min', now() - n * interval '10 min', '2000-01-01'), c.id,
       case when s = 0 then '00000000-0000-0000-0000-000000000000' else lpad(s::text, 32, '0')::uuid end,
       case when s = 0 then 3 else 0 end, s, s
from generate_series(0, 19) n, channel c, generate_series(0, 2) s"""
BIG = ("event", "conversation", "console_session", "message", "outbox", "traffic")
NOW = datetime.now(UTC)
HEADS = [59_999 - (59_999 - shard) % SHARDS for shard in range(SHARDS)]
END, FIRST, HUNDREDTH = UUID(int=2**128 - 1), UUID(f"{1:032}"), UUID(f"{100:032}")


async def test_conversations_overview_and_hints_read_by_index(database_url: str) -> None:
    asked = (
        (talks.LIST_MOVED_SQL, (60_000, None, 30, talks.SPAN)),
        (talks.LIST_MOVED_SQL, (30_000, [HUNDREDTH], 30, talks.SPAN)),
        (talks.LIST_ALL_SQL, (END, 30)),
        (talks.LIST_OF_CHANNELS_SQL, (END, 30, [HUNDREDTH, FIRST])),
        (talks.LIST_HELD_SQL, (END, 30, FIRST, None)),
        (talks.LIST_WAITING_SQL, (END, 30, None, None)),
        (talks.COUNT_WAITING_SQL, (None, None)),
        (standing.LIST_STANDING_SQL, (None, 50)),
        (standing.LIST_BACKLOG_SQL, ()),
        (standing.LIST_FLOWS_SQL, ([HUNDREDTH, FIRST], None, NOW)),
        (pulse.LIST_HINTS_SQL, (HEADS, 1000, 20_000)),
        (pulse.FIND_MARKS_SQL, ()),
        (pulse.LIST_DELIVERY_MARKS_SQL, ()),
        (console_sessions.FIND_SESSION_SQL, (b"\x01",)),
        (console_sessions.LIST_LIVE_SQL, ([b"\x01"],)),
        (console_sessions.PRUNE_SESSIONS_SQL, (1000,)),
    )
    async with connected(database_url) as conn:
        await conn.execute("set synchronous_commit = off")
        await conn.execute(FILL)
        await conn.execute("select setval('event_id_seq', 59999); analyze")
        for sql, args in asked:
            plan = [row[0] for row in await conn.fetch(f"explain {sql}", *args)]
            walked = [line for line in plan if "Seq Scan on" in line and line.split("Seq Scan on ")[1].startswith(BIG)]
            assert not [line for line in walked if "(cost=0.00..0.00" not in line], "\n".join(plan)
        await _lists_are_whole(conn)


async def _lists_are_whole(conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Page by page every conversation is there once, in its order."""
    found: list[UUID] = []
    place = await talks.find_end(conn)
    while place > 0:
        rows = await talks.list_moved(conn, place, [HUNDREDTH], 30)
        found += [row["id"] for row in rows]
        place = rows[-1]["event_id"] if len(rows) == 30 else place - talks.SPAN
    assert len(found) == len(set(found)) == 200
    whole = [row["id"] for row in await talks.list_all(conn, END, [HUNDREDTH], 1000)]
    assert whole == sorted(found, reverse=True)
    held = await talks.list_held(conn, END, None, FIRST, 1000)
    assert [row["id"] for row in held] == [UUID(f"{x:032}") for x in range(199, 0, -2)]
    assert await talks.list_held(conn, END, None, HUNDREDTH, 1000) == []
    rows = await standing.list_standing(conn, FIRST, 50)
    assert {row["number_id"] for row in rows} == {19, 39, 59, 79, 99, 100}
    await conn.execute(
        "update subscription set state = 'paused', paused_at = now(), paused_reason = 'asked' where channel_id = $1",
        UUID(f"{77:032}"),
    )
    await conn.execute(
        "insert into sender_health (sender_id, state) select id, 'down' from sender where number_id = 88"
    )
    first = await standing.list_standing(conn, None, 5)
    assert sorted({row["number_id"] for row in first}) == [1, 2, 3, 77, 88], "those in trouble, and the oldest"
    assert await standing.count_everything(conn, FIRST) == (6, 1)
    assert await standing.count_everything(conn, None) == (100, 100)
    await conn.execute(
        "insert into channel (id, number_id, kind, owner_service_id) values ($1, 100, 'standalone', $2)", END, FIRST
    )
    await conn.execute(
        "insert into traffic select step, at, $1, service_id, received from traffic where channel_id = $2",
        END,
        HUNDREDTH,
    )
    for viewer, webhooks in ((None, 60), (FIRST, 20)):
        flows = await standing.list_flows(conn, [HUNDREDTH, END], viewer, NOW - timedelta(days=1))
        by_time, by_service = [row for row in flows if row["at"]], [row for row in flows if not row["at"]]
        assert sum(row["received"] for row in by_time) == 60  # one for its number, though both channels have it
        assert sum(row["accepted"] for row in by_time) == sum(row["accepted"] for row in by_service) == 60
        assert sum(row["webhooks"] for row in by_time) == sum(row["webhooks"] for row in by_service) == webhooks
    assert await pulse.list_hints(conn, HEADS, 1000) == []
    seen = await pulse.list_hints(conn, [59_900] * SHARDS, 1000)
    assert [row["id"] for row in seen] == list(range(59_901, 60_000))
