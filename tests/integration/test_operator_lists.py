"""What the operator pages through, of all services at once: complete, in order, and by index (rules A8, G3)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hub.store import audit, audit_search, campaigns, dead_letters, event_search
from hub.store.audit_search import AuditFilter
from hub.store.campaigns import CampaignPlace
from hub.store.event_search import EventFilter
from hub.store.pool import Connection
from tests.support.wire import connected

FILL = """
insert into number (e164) select '+1555000' || 1000 + x from generate_series(1, 5) x;
insert into service (id, name, plan, scopes)
select lpad(x::text, 32, '0')::uuid, 'service ' || x, 'bundle', '{read}' from generate_series(1, 4) x;
insert into channel (id, number_id, kind) select lpad(id::text, 32, '0')::uuid, id, 'shared' from number;
insert into subscription (id, channel_id, service_id)
select lpad((10 * s + c)::text, 32, '0')::uuid, lpad(c::text, 32, '0')::uuid, lpad(s::text, 32, '0')::uuid
from generate_series(1, 4) s, generate_series(1, 5) c;
insert into dead_letter (subscription_id, event_id, attempts)
select u.id, 5 * x + c.number_id, 11 from subscription u join channel c on c.id = u.channel_id,
       generate_series(1, 1000) x;
insert into parked_lane (subscription_id, lane, shard, first_event_id, attempts, next_attempt_at)
select u.id, lpad((1000000 + 10000 * c.number_id + x)::text, 32, '0')::uuid, 0, 1, 4, now()
from subscription u join channel c on c.id = u.channel_id, generate_series(1, 500) x;
insert into tracked_link (id, token_hash, target, service_id, message_id, campaign, created_at)
select lpad(x::text, 32, '0')::uuid, convert_to(x::text, 'UTF8'), 'https://shop.example/',
       lpad((1 + x % 2)::text, 32, '0')::uuid, lpad((x / 2)::text, 32, '0')::uuid, 'c' || x / 2 % 7,
       now() - interval '1 day'
from generate_series(1, 10000) x"""
TRAIL = """
insert into audit (at, actor, action, subject, details)
select timestamptz '2026-01-01 00:00Z' + x * interval '1 minute',
       case when x % 1000 = 0 then 'svc_1' else 'operator' end,
       case when x % 3 = 0 then 'replay.requested' else 'number.changed' end, 's' || x % 10,
       case when x % 500 = 7 then '{"replay": "rpl_7"}' else '{}' end
from generate_series(1, 30000) x"""
FIRST = UUID(int=0)


async def plan(conn: Connection, sql: str, *args: object) -> list[str]:
    return [row[0] for row in await conn.fetch(f"explain {sql}", *args)]


async def test_g3_what_failed_for_all_services_is_paged_through_once(database_url: str) -> None:
    async with connected(database_url) as conn:
        await conn.execute(FILL)
        await conn.execute("analyze")
        seen: list[tuple[int, UUID]] = []
        after = (0, FIRST)
        while len(rows := await dead_letters.list_dead(conn, None, "+15550001002", after[0], 7, subscription=after[1])):
            seen += [(row["event_id"], row["subscription_id"]) for row in rows]
            after = seen[-1]
            if len(seen) > 100:
                break
        assert seen == sorted(set(seen)), "no event is passed over that several services missed"
        assert len({event for event, _ in seen}) == len(seen) // 4 + 1
        own = await dead_letters.list_dead(conn, UUID(f"{3:032}"), None, 17, 200)
        assert [row["event_id"] for row in own] == list(range(18, 218))
        assert {row["service_name"] for row in own} == {"service 3"}

        lanes: list[tuple[UUID, UUID]] = []
        lane = (FIRST, FIRST)
        while len(parked := await dead_letters.list_parked(conn, None, None, lane[0], 150, subscription=lane[1])):
            lanes += [(row["lane"], row["subscription_id"]) for row in parked]
            lane = lanes[-1]
        assert (len(lanes), len(set(lanes))) == (10_000, 10_000)
        assert lanes == sorted(lanes)
        for sql, args, index in (
            (dead_letters.LIST_DEAD_SQL, (None, None, 0, 50, FIRST), "dead_letter_pkey"),
            (dead_letters.LIST_PARKED_SQL, (None, None, FIRST, 50, FIRST), "parked_lane_pkey"),
        ):
            lines = await plan(conn, sql, *args)
            assert any(index in line for line in lines), lines

        # Campaigns, from name to name.
        names: list[tuple[str, str]] = []
        place: CampaignPlace | None = CampaignPlace()
        while place:
            page, place = await campaigns.list_campaigns(conn, None, place, 4, is_whole=True)
            names += [(one.service_name, one.name) for one in page]
        assert names == [(f"service {s}", f"c{c}") for s in (1, 2) for c in range(7)]
        one, _ = await campaigns.list_campaigns(conn, UUID(f"{2:032}"), CampaignPlace(), 50, is_whole=False)
        assert [found.name for found in one] == [f"c{c}" for c in range(7)]
        lines = await plan(conn, campaigns.LIST_CAMPAIGNS_SQL, FIRST, "", None, 50, True)
        assert not any("Seq Scan on tracked_link" in line for line in lines), lines


async def test_a8_the_trail_is_read_both_ways_by_what_it_says_and_when(database_url: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    async with connected(database_url) as conn:
        assert await audit.find_place(conn, start) == 1
        await conn.execute(TRAIL)
        await conn.execute("delete from audit where id between 4000 and 4100 or id % 17 = 3")
        await conn.execute("analyze audit")
        ids = [row["id"] for row in await conn.fetch("select id from audit order by id")]
        for minute in (0, 1, 2, 3999, 4000, 4050, 4101, 29_999, 30_000, 30_001):
            place = await audit.find_place(conn, start + timedelta(minutes=minute))
            assert [one for one in ids if one < place] == [one for one in ids if one < minute], minute
        for wanted, fits in (
            (AuditFilter(actor="svc_1"), lambda x: x % 1000 == 0),
            (AuditFilter(action="replay", subject="s4"), lambda x: x % 3 == 0 and x % 10 == 4),
            (AuditFilter(mention="rpl_7"), lambda x: x % 500 == 7),
            (AuditFilter(), lambda x: True),
        ):
            expected = [one for one in ids if fits(one)]
            assert await collect(conn, wanted, 0) == expected
        rows, following = await audit_search.search(conn, 2**62, AuditFilter(actor="svc_1"), 5)
        assert [row["id"] for row in rows] == [one for one in reversed(ids) if one % 1000 == 0][:5]
        assert following == rows[-1]["id"]
        for sql, args in (
            (audit.LIST_AUDIT_SQL, (5, audit_search.REACH, None, None, None, None, 50)),
            (audit.FIND_PLACE_SQL, (start,)),
        ):
            lines = await plan(conn, sql, *args)
            assert any("audit_pkey" in line for line in lines), lines
            assert not any("Seq Scan on audit" in line for line in lines), lines


async def collect(conn: Connection, wanted: AuditFilter, after: int) -> list[int]:
    """All that fits, oldest first."""
    found: list[int] = []
    place: int | None = after
    while place is not None:
        rows, place = await audit.list_audit(conn, place, 200, wanted)
        found += [row["id"] for row in rows]
    return found


EVENTS = """
insert into number (e164) values ('+15550001111'), ('+15550002222');
insert into event (id, shard, prev_id, type, number_id, channel_id, data, created_at)
select x, x % 64, 0, case when x % 1000 = 0 then 'service.paused' else 'message.received' end, 1 + (x % 500 = 0)::int,
       gen_random_uuid(), '{}', now()
from generate_series(1, 20000) x"""


async def test_the_log_is_looked_through_by_its_key(database_url: str) -> None:
    async with connected(database_url) as conn:
        await conn.execute(EVENTS)
        await conn.execute("analyze event")
        for is_back, first in ((False, 0), (True, 2**62)):
            for wanted, step in ((EventFilter("service.paused"), 1000), (EventFilter(e164="+15550002222"), 500)):
                found: list[int] = []
                place: int | None = first
                while place is not None:
                    events, place = await event_search.search(conn, place, wanted, 7, is_back=is_back)
                    found += [event.id for event in events]
                expected = list(range(step, 20_001, step))
                assert found == (expected[::-1] if is_back else expected)
        for sql, place in ((event_search.LIST_ON_SQL, 10), (event_search.LIST_BACK_SQL, 19_000)):
            lines = await plan(conn, sql, place, event_search.REACH, None, None, None, 50)
            assert not any("Seq Scan on event" in line for line in lines), lines
