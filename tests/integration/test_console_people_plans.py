"""What the console's pages of people read is found by index, however many contacts, campaigns and links there are."""

from typing import Any
from uuid import UUID

from hub.store import people
from hub.store.click_reports import Campaign
from tests.support.wire import connected

SHOP, DESK = UUID(int=1), UUID(int=2)
CHANNEL = UUID(int=3)
FILL = f"""
with s as (insert into service (id, name, plan, scopes)
           select x, 's', 'bundle', '{{read}}' from unnest(array['{SHOP}', '{DESK}']::uuid[]) x returning id),
     n as (insert into number (e164) values ('+4915100001') returning id),
     h as (insert into channel (id, number_id, kind) select '{CHANNEL}', id, 'shared' from n returning id, number_id),
     u as (insert into subscription (id, channel_id, service_id) select s.id, h.id, s.id from s, h),
     c as (insert into contact (id, created_at, merged_into, erased_at)
           select lpad(to_hex(x), 32, '0')::uuid, now(), null, null from generate_series(1, 20000) x returning id),
     v as (insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
           select c.id, h.number_id, h.id, 'sms', c.id, 'phone', '+49' || right(c.id::text, 9) from c, h),
     k as (insert into contact_knower (contact_id, service_id) select c.id, '{DESK}' from c),
     l as (insert into tracked_link (id, token_hash, target, contact_id, service_id, campaign, message_id, created_at)
           select id, decode(replace(id::text, '-', ''), 'hex'), 'https://shop.example/', id, '{SHOP}',
                  'c' || (('x' || right(id::text, 4))::bit(16)::int % 20), id, now() from c),
     g as (insert into landing (click_id, visitor_id, link_id, session, click_at, landed_at, outcome, reason)
           select id, id, id, 's', now() - interval '1 hour', now(), 'bound', 'test' from c)
insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                     provider, status, author_service_id, campaign)
select c.id, h.number_id, h.id, c.id, 1, 'outbound', 'sms', 'text', 'campaign', '{{}}', 'twilio',
       (array['sent', 'delivered', 'read', 'failed', 'queued'])[1 + ('x' || right(c.id::text, 4))::bit(16)::int % 5],
       '{SHOP}', 'c' || (('x' || right(c.id::text, 4))::bit(16)::int % 20)
from c, h"""
LAST = UUID(int=2**128 - 1)
BIG = ("contact ", "conversation", "contact_knower", "tracked_link", "landing", "message")


async def test_lists_and_funnels_are_read_by_index_and_in_order(database_url: str) -> None:
    asked: list[tuple[str, tuple[Any, ...]]] = [
        (people.LIST_PEOPLE_SQL, (LAST, 50)),
        (people.LIST_REACHED_SQL, (LAST, 50, DESK)),
        (people.LIST_LANDINGS_SQL, ([UUID(int=77)], 50, None)),
        (people.LIST_LANDINGS_SQL, ([UUID(int=77)], 50, SHOP)),
        (people.LIST_TALKS_SQL, ([UUID(int=77)],)),
        (people.LIST_CAMPAIGNS_SQL, (SHOP, SHOP, SHOP, "", 50, False)),
        (people.LIST_CAMPAIGNS_SQL, (UUID(int=0), LAST, UUID(int=0), "", 50, True)),
        (people.COUNT_SENT_SQL, (SHOP, "c3", False)),
    ]
    async with connected(database_url) as conn:
        await conn.execute(FILL)
        await conn.execute("analyze")
        for sql, args in asked:
            plan = [row[0] for row in await conn.fetch(f"explain {sql}", *args)]
            walked = [line for line in plan if "Seq Scan on" in line and line.split("Seq Scan on ")[1].startswith(BIG)]
            assert not walked, "\n".join(plan)

        newest = await people.list_people(conn, None, LAST, 3)
        assert [row["id"].int for row in newest] == [20000, 19999, 19998]
        assert await people.list_people(conn, DESK, LAST, 3) == newest
        assert [row["id"].int for row in await people.list_people(conn, DESK, newest[-1]["id"], 1)] == [19997]
        await conn.execute("update subscription set disconnected_at = now() where service_id = $1", SHOP)
        assert await people.list_people(conn, SHOP, LAST, 3) == []

        first = await people.list_campaigns(conn, None, None, 12)
        then = await people.list_campaigns(conn, SHOP, (SHOP, first[-1]["campaign"]), 50)
        assert [row["campaign"] for row in (*first, *then)] == sorted(f"c{n}" for n in range(20))
        assert {(row["first_id"].int, row["last_id"].int) for row in first if row["campaign"] == "c1"} == {(1, 19981)}
        assert await people.list_campaigns(conn, DESK, None, 50) == []
        assert {row["is_in_reach"] for row in then} == {True}  # by links that are in no message of the hub's
        await conn.execute("update tracked_link set channel_id = $1 where campaign = 'c9'", CHANNEL)
        own = await people.list_campaigns(conn, SHOP, None, 50)
        assert [row["campaign"] for row in own if not row["is_in_reach"]] == ["c9"]
        assert all(row["is_in_reach"] for row in await people.list_campaigns(conn, None, None, 50))
        for viewer, found in ((None, 1), (SHOP, 0)):  # it has left
            landings = await people.list_landings(conn, [UUID(int=9)], 50, viewer)
            assert len(landings) == found
        assert (await people.count_sent(conn, Campaign(SHOP, "c3"))).accepted == 0  # it has left the channel
        sent = await people.count_sent(conn, Campaign(SHOP, "c3", is_whole=True))
        assert (sent.accepted, sent.sent, sent.on_whatsapp) == (1000, 0, 0)
        assert sent.failed == 1000
