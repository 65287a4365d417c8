"""Tracing and finding cost by what there is of one message, however much there is of others (rules B, G3)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hub.actions import trace_deliveries
from hub.actions.look import View
from hub.actions.search import search
from hub.actions.trace import trace
from hub.domain.media_links import MediaLinks
from hub.store import attempts, event_lives, finding, lives
from hub.store.deliveries import Delivered, pack
from tests.support.wire import connected

MANY = 20_000
FILL = f"""
with n as (insert into number (e164) values ('+15550001111') returning id),
     s as (insert into service (id, name, plan, scopes)
           select lpad(x::text, 32, '0')::uuid, 'service ' || x, 'bundle', '{{read}}' from generate_series(1, 300) x
           returning id),
     c as (insert into channel (id, number_id, kind) select lpad('1', 32, '0')::uuid, id, 'shared' from n returning id),
     u as (insert into subscription (id, channel_id, service_id, connected_at, endpoint_url)
           select s.id, c.id, s.id, now() - interval '2 days', 'https://s.example' from s, c
           where s.id < lpad('4', 32, '0')::uuid returning id),
     k as (insert into cursor (subscription_id, shard, position)
           select u.id, x, {MANY} from u, generate_series(0, 63) x),
     p as (insert into contact (id, name) select lpad(x::text, 32, '0')::uuid, 'Mia Number' || x
           from generate_series(1, 2000) x returning id),
     a as (insert into contact_address (contact_id, type, value, match_key, is_proved)
           select id, 'phone', '+49151' || right(id::text, 8), '+49151' || right(id::text, 8), true from p)
insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value, last_sequence)
select lpad(x::text, 32, '0')::uuid, n.id, c.id, 'sms', p.id, 'phone', '+1', {MANY // 2000}
from generate_series(1, 2000) x join p on p.id = lpad(x::text, 32, '0')::uuid, n, c"""
MESSAGES = f"""
insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                     provider, provider_id, status, author_service_id, created_at)
select lpad(to_hex(x), 32, '0')::uuid, 1, lpad('1', 32, '0')::uuid, lpad((1 + x % 2000)::text, 32, '0')::uuid, x / 2000,
       case when x % 2 = 0 then 'inbound' else 'outbound' end, 'sms', 'text',
       case when x % 2 = 0 then 'customer' else 'agent' end, '{{}}', 'twilio', 'SM' || lpad(to_hex(x), 32, '0'),
       case when x % 2 = 1 then 'sent' end, case when x % 2 = 1 then lpad('1', 32, '0')::uuid end,
       now() - interval '1 day' + make_interval(secs => x)
from generate_series(0, {MANY - 1}) x"""
EVENTS = """
insert into event (id, shard, prev_id, type, number_id, channel_id, conversation_id, sequence, message_id, data,
                   created_at)
select row_number() over (order by created_at), (('x' || right(conversation_id::text, 2))::bit(8)::int) & 63, 0,
       'message.received', 1, channel_id, conversation_id, sequence, id, '{}', created_at from message"""
LIVES = """
insert into message_ruling (message_id, at, judged)
select id, created_at, '[]' from message where direction = 'outbound';
insert into provider_call (message_id, began_at, attempt, requests, outcome)
select id, created_at, 1, 1, 'taken' from message where direction = 'outbound';
insert into inbound_key (key) select decode(md5(id::text), 'hex') from message"""
BIG = ("message", "event", "conversation", "contact", "provider_call", "inbound_key", "delivered")
ONE, NOW = UUID(int=0x1235), datetime.now(UTC)
TALK, CHANNEL = UUID("00000000-0000-0000-0000-000000000662"), UUID("00000000-0000-0000-0000-000000000001")


async def test_one_message_s_life_is_found_by_index_in_no_time(database_url: str) -> None:
    asked = (
        (lives.FIND_RULINGS_SQL, (ONE,)),
        (lives.LIST_CALLS_SQL, (ONE, 50)),
        (lives.FIND_BY_PROVIDER_ID_SQL, ("SM" + "0" * 28 + "1235", 20)),
        (lives.FIND_KEYS_SQL, ([b"0" * 16],)),
        (lives.FIND_QUARANTINED_SQL, ([b"0" * 16],)),
        (lives.FIND_ORPHANS_SQL, ("SM1", 20)),
        (lives.PRUNE_CALLS_SQL, (timedelta(days=14), 1000)),
        (lives.PRUNE_RULINGS_SQL, (timedelta(days=14), 1000)),
        (event_lives.LIST_OF_MESSAGE_SQL, (TALK, 100, ONE, 50)),
        (event_lives.FIND_EVENT_SQL, (4711,)),
        (event_lives.LIST_STANDINGS_SQL, ([CHANNEL], [4711], 34, TALK)),
        (event_lives.LIST_FAILED_SQL, ([CHANNEL], [4711], 34, 30)),
        (attempts.LIST_PACKED_AFTER_SQL, (NOW - timedelta(hours=20), 25)),
        (finding.FIND_BY_NAME_SQL, ("'number77':*", None, 20)),
        (finding.FIND_BY_NAME_SQL, ("'number77':*", CHANNEL, 20)),
        (finding.FIND_BY_ADDRESS_SQL, (["phone"], CHANNEL, 20, ["+4915100001234"])),
        (finding.FIND_CONTACT_SQL, (TALK, CHANNEL, 1)),
        (finding.FIND_TALKS_SQL, ([TALK], CHANNEL, 20)),
    )
    async with connected(database_url) as conn:
        for sql in (FILL, MESSAGES, EVENTS, LIVES):
            await conn.execute(sql)
        await conn.execute("select setval('event_id_seq', $1)", MANY)
        await fill_deliveries(conn)
        await conn.execute("analyze")
        for sql, args in asked:
            plan = [row[0] for row in await conn.fetch(f"explain {sql}", *args)]
            walked = [line for line in plan if "Seq Scan on" in line and line.split("Seq Scan on ")[1].startswith(BIG)]
            walked = [line for line in walked if "(cost=0.00..0.00" not in line]  # a partition without anything
            assert not walked, "\n".join(plan)

        reads = 0
        packed_after = attempts.list_packed_after

        async def counted(*args: object) -> object:
            nonlocal reads
            reads += 1
            return await packed_after(*args)  # type: ignore[arg-type]

        trace_deliveries.attempts.list_packed_after = counted  # type: ignore[assignment]
        try:
            view = View(None, MediaLinks("https://hub.example.com", ["secret"]))
            life = await trace(conn, view, f"msg_{ONE.hex}", NOW)
        finally:
            trace_deliveries.attempts.list_packed_after = packed_after
        (event,) = life["events"]
        assert [d["outcome"] for d in event["deliveries"]] == ["delivered"] * 3
        assert reads == 1  # not every flush there is
        assert [hit.kind for hit in await search(conn, view, "number1234")] == ["contact", "conversation"]


async def fill_deliveries(conn: object) -> None:
    """Every event accepted by three services, a flush every 20 events, a second later."""
    rows = await conn.fetch("select id, shard, created_at from event order by id")  # type: ignore[attr-defined]
    flushes = []
    for start in range(0, len(rows), 20):
        part = rows[start : start + 20]
        done = [Delivered(UUID(int=u), row["shard"], row["id"], 200, 7) for row in part for u in (1, 2, 3)]
        flushes.append((1, part[-1]["created_at"] + timedelta(seconds=1), pack(done)))
    await conn.copy_records_to_table(  # type: ignore[attr-defined]
        "delivered", records=flushes, columns=("owner", "at", "entries")
    )
