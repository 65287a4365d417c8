"""The console's pages of deliveries and administration read what they show by index, however much there is."""

from datetime import UTC, datetime
from uuid import UUID

from hub.store import attempts, audit_search, delivery_desk, delivery_health, number_summaries, quarantine_desk, replays
from hub.store.audit_search import AuditFilter
from tests.support.wire import connected

FILL = """
insert into number (e164) select '+1555' || 1000000 + x from generate_series(1, 400) x;
insert into service (id, name, plan, scopes)
select lpad(x::text, 32, '0')::uuid, 'service ' || x, 'bundle', '{read}' from generate_series(1, 8) x;
insert into channel (id, number_id, kind) select lpad(id::text, 32, '0')::uuid, id, 'shared' from number;
insert into subscription (id, channel_id, service_id, is_parent, parent_since)
select lpad((1000 * s + c)::text, 32, '0')::uuid, lpad(c::text, 32, '0')::uuid, lpad(s::text, 32, '0')::uuid, s = 1,
       case when s = 1 then now() end
from generate_series(1, 8) s, generate_series(1, 400) c;
insert into dead_letter (subscription_id, event_id, attempts)
select id, x, 11 from subscription, generate_series(1, 5) x;
insert into quarantine (item_key, provider, path, reason, detail, raw, state)
select decode(lpad(to_hex(x), 32, '0'), 'hex'), 'meta', '/webhooks/meta',
       case when x % 4000 = 5 then 'too_deep' else 'unknown_number' end, 'd', '\\x00',
       case when x % 3 = 0 then 'open' else 'noted' end
from generate_series(1, 30000) x;
insert into audit (actor, action, subject)
select 'operator', case when x = 100 then 'key.added' else 'replay.requested' end, 's'
from generate_series(1, 45000) x;
insert into sender (number_id, medium, provider, external_id)
select id, 'sms', 'twilio', e164 from number;
insert into contact (id) values (lpad('1', 32, '0')::uuid);
insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
select lpad(id::text, 32, '0')::uuid, id, lpad(id::text, 32, '0')::uuid, 'sms', lpad('1', 32, '0')::uuid, 'phone', '+1'
from number;
insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                     provider, author_service_id, status)
select lpad(x::text, 32, '0')::uuid, 1 + x % 400, lpad((1 + x % 400)::text, 32, '0')::uuid,
       lpad((1 + x % 400)::text, 32, '0')::uuid, x, 'outbound', 'sms', 'text', 'campaign', '{}', 'twilio',
       lpad('1', 32, '0')::uuid, 'queued'
from generate_series(1, 8000) x;
insert into outbox (message_id, sender_id, conversation_id, sequence, priority)
select m.id, s.id, m.conversation_id, m.sequence, 2 from message m join sender s on s.number_id = m.number_id;
insert into attempt (subscription_id, shard, event_id, at, outcome, duration_ms)
select id, 1, x, now() - x * interval '1 second', 'failed', 5 from subscription, generate_series(1, 5) x"""
ONE, OWN = UUID(f"{1:032}"), UUID(f"{1001:032}")
LAST = 2**62
BIG = ("audit", "quarantine", "dead_letter", "message", "outbox", "attempt", "subscription", "replay_shard")


async def test_pages_of_administration_read_by_index(database_url: str) -> None:
    now = datetime.now(UTC)
    reach = quarantine_desk.REACH
    asked = (
        (audit_search.SEARCH_SQL, (LAST, audit_search.REACH, None, "key", None, "svc_1", 50)),
        (audit_search.FIND_END_SQL, (LAST, audit_search.REACH)),
        (quarantine_desk.COUNT_REASONS_SQL, (reach,)),
        (quarantine_desk.LIST_OPEN_SQL, (LAST, reach, "too_deep", 50)),
        (quarantine_desk.LIST_ALL_SQL, (LAST, reach, None, 50, "noted")),
        (quarantine_desk.FIND_OPEN_END_SQL, (LAST, reach)),
        (quarantine_desk.FIND_END_SQL, (LAST, reach)),
        (delivery_desk.COUNT_DEAD_SQL, ([OWN], 100)),
        (delivery_desk.COUNT_AUTOMATION_SQL, (1, ONE, ONE, 100)),
        (delivery_health.LIST_HEALTH_SQL, ([OWN],)),
        (number_summaries.LIST_SUMMARIES_SQL, ([1, 2, 3],)),
        (number_summaries.LIST_OWN_SQL, ([1, 2, 3], ONE)),
        (attempts.LIST_FAILED_SQL, ([OWN], now, 2**62, None, 50, UUID(int=0))),
        (attempts.LIST_HEARERS_SQL, ([OWN], ONE)),
        (replays.LIST_REPLAYS_SQL, (None, None, UUID(int=2**128 - 1), 50)),
    )
    async with connected(database_url) as conn:
        await conn.execute("set synchronous_commit = off")
        await conn.execute(FILL)
        await conn.execute("analyze")
        for sql, args in asked:
            plan = [row[0] for row in await conn.fetch(f"explain {sql}", *args)]
            walked = [line for line in plan if "Seq Scan on" in line and line.split("Seq Scan on ")[1].startswith(BIG)]
            walked = [line for line in walked if "(cost=0.00..0.00" not in line]  # a partition without anything
            assert not walked, "\n".join(plan)

        assert await delivery_desk.count_automation(conn, 1, ONE, ONE) == 20
        assert await delivery_desk.count_automation(conn, 1, ONE, UUID(f"{2:032}")) == 0
        assert await delivery_desk.count_dead(conn, [OWN, ONE]) == {OWN: 5, ONE: 0}
        summary = (await number_summaries.list_summaries(conn, [3]))[3]
        assert (summary["parent_name"], summary["members"], summary["paused"]) == ("service 1", 8, 0)
        assert (summary["standalone"], summary["parent_epoch"]) == (0, 0)

        counted = {row["reason"]: row["entries"] for row in await quarantine_desk.count_reasons(conn)}
        assert sum(counted.values()) == 10_000
        found, place = [], LAST
        looks = 0
        while place is not None:  # rare ones among many: few a page, and all of them in the end
            rows, place = await quarantine_desk.list_newest(conn, place, 50, "noted", "too_deep")
            found += [row["id"] for row in rows]
            looks += 1
        assert found == [x for x in range(30_000, 0, -1) if x % 4000 == 5 and x % 3]
        assert looks == 4
        rows, place = await audit_search.search(conn, LAST, AuditFilter(action="key"), 50)
        assert (len(rows), place) == (0, 25_001)
