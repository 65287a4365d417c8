"""Reports look at the clicks they count, however many there are beside them."""

from uuid import UUID

from hub.store import click_reports, stale_visits
from hub.store.click_reports import Campaign
from hub.store.pool import Database
from tests.support.wire import connected

FILL = """
insert into service (id, name, plan, scopes) values (lpad('1', 32, '0')::uuid, 'shop', 'bundle', '{profiles}');
insert into tracked_link (id, token_hash, target, service_id, message_id, campaign, created_at)
select lpad(x::text, 32, '0')::uuid, convert_to(x::text, 'UTF8'), 'https://shop.example/', lpad('1', 32, '0')::uuid,
       lpad((x / 2)::text, 32, '0')::uuid, case when x <= 20 then 'small' else 'c' || x % 20 end,
       now() - interval '1 day'
from generate_series(1, 5000) x;
insert into click (id, at, link_id, kind, reason, counts, visitor_id)
select gen_random_uuid(), now() - x % 20 * interval '1 hour', lpad((1 + x % 5000)::text, 32, '0')::uuid, 'person',
       'person', true, gen_random_uuid()
from generate_series(1, 20000) x;
insert into landing (click_id, visitor_id, link_id, session, click_at, landed_at, outcome, reason)
select id, visitor_id, link_id, 's', at, at, 'anonymous', 'anonymous' from click;
insert into click_total (link_id, kind, reason, clicks, visitors, first_at, last_at)
select id, 'person', 'person', 1, 1, created_at, created_at from tracked_link"""
SHOP, LINK = UUID(int=1), UUID(f"{7:032}")


async def test_reports_read_by_index(database_url: str) -> None:
    small = Campaign(SHOP, "small", is_whole=True)
    async with connected(database_url) as conn:
        await conn.execute(FILL)
        await conn.execute("analyze")
        (counted,) = await click_reports.count_clicks(conn, [LINK], [LINK])
        assert (counted["clicks"], counted["visitors"]) == (4 + 1, 4 + 1)
        (counted,) = await click_reports.count_campaign_clicks(conn, small)
        assert counted["clicks"] == 20 * 5
        rows = await click_reports.list_of_campaign(conn, small, UUID(int=0), 3)
        assert [int(row["id"].hex) for row in rows] == [2, 3, 4, 5, 6, 7]
        full = {row[0] for row in await conn.fetch("select distinct tableoid::regclass::text from click")} | {"landing"}
        for sql, args, indexes in (
            (click_reports.COUNT_CLICKS_SQL, ([LINK], [LINK]), ("_link_id_at_idx", "click_total_pkey")),
            (click_reports.COUNT_VISITS_SQL, ([LINK], [LINK]), ("landing_link",)),
            (click_reports.LIST_OF_CAMPAIGN_SQL, (*small.args, UUID(int=0), 3), ("tracked_link_campaign",)),
            (click_reports.LIST_OF_MESSAGE_SQL, (LINK,), ("tracked_link_message",)),
            (click_reports.COUNT_CAMPAIGN_CLICKS_SQL, small.args, ("tracked_link_campaign", "_link_id_at_idx")),
        ):
            lines = [row[0] for row in await conn.fetch(f"explain {sql}", *args)]
            for index in indexes:
                assert any(index in line for line in lines), (index, lines)
            assert not any(f"Seq Scan on {table} " in line for table in full for line in lines), lines


VISITORS = """
insert into visitor (id, created_at, seen_at)
select lpad(x::text, 32, '0')::uuid, now(), now() - case when x % 10 = 0 then interval '800 days' else '0' end
from generate_series(1, 20000) x;
insert into visitor_twin (visitor_id, twin_id)
select lpad((x + a)::text, 32, '0')::uuid, lpad((x + 1 - a)::text, 32, '0')::uuid
from generate_series(1, 20000) x, generate_series(0, 1) a;
insert into landing (click_id, visitor_id, link_id, session, click_at, landed_at, outcome, reason)
select gen_random_uuid(), id, gen_random_uuid(), 's', now(), now(), 'anonymous', 'anonymous' from visitor"""


async def test_visitors_are_forgotten_by_index(database_url: str) -> None:
    async with connected(database_url) as conn:
        await conn.execute(VISITORS)
        await conn.execute("analyze")
        janitor = await Database(lambda: {"dsn": database_url}).dedicated()
        args = (stale_visits.VISITOR_AGE, 100)
        lines = [row[0] for row in await janitor.conn.fetch(f"explain {stale_visits.PRUNE_VISITORS_SQL}", *args)]
        await janitor.close()
        for table in ("visitor", "visitor_twin", "landing"):
            assert not any(f"Seq Scan on {table} " in line for line in lines), lines
