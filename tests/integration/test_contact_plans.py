"""What is found of one contact costs by what there is of it, however much there is of others (rules C3, H5)."""

from datetime import UTC, datetime
from uuid import UUID

from hub.store import consents, contact_views, contacts, erasing, profile_reach, web_timeline
from tests.support.wire import connected

FILL = """
with c as (insert into contact (id) select lpad(x::text, 32, '0')::uuid from generate_series(1, 2000) x returning id),
     a as (insert into contact_address (contact_id, type, value, match_key, is_proved)
           select id, 'phone', '+49' || right(id::text, 9), '+49' || right(id::text, 9), true from c),
     s as (insert into service (id, name, plan, scopes) values (lpad('1', 32, '0')::uuid, 's', 'bundle', '{read}')
           returning id),
     k as (insert into contact_knower (contact_id, service_id) select c.id, s.id from c, s),
     b as (insert into visitor_binding (id, visitor_id, contact_id, period, trust, bound_at)
           select id, id, id, tstzrange(now() - interval '20 hours', null), 1, now() from c),
     l as (insert into landing (click_id, visitor_id, link_id, session, click_at, landed_at, outcome, reason)
           select id, id, id, 's', now() - interval '1 hour', now(), 'bound', 'test' from c),
     t as (insert into tracked_link (id, token_hash, target, contact_id, created_at)
           select id, decode(replace(id::text, '-', ''), 'hex'), 'https://shop.example/', id, now() from c)
insert into web_event (id, at, received_at, type, visitor_id, session, site, url)
select gen_random_uuid(), now() - make_interval(mins => n), now(), 'page', c.id, 's', 'shop.example', 'https://shop.example/'
from c, generate_series(1, 10) n"""
SAID = """
insert into consent_event (medium, address_type, address_key, address_value, kind, source, at)
select 'tracking', 'phone', match_key, value, 'granted', 'service', now() from contact_address"""
ONE = UUID(int=0x1234)
LAST = datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1)
FIRST = datetime.fromtimestamp(0, UTC), UUID(int=0)


async def test_one_contact_s_own_is_found_by_index(database_url: str) -> None:
    asked = (
        (web_timeline.LIST_VISITS_BEFORE_SQL, ([ONE], *LAST, 5)),
        (web_timeline.LIST_VISITS_AFTER_SQL, ([ONE], *FIRST, 5)),
        (web_timeline.LIST_CLICKS_BEFORE_SQL, ([ONE], *LAST, 5)),
        (web_timeline.LIST_CLICKS_AFTER_SQL, ([ONE], *FIRST, 5)),
        (web_timeline.LIST_CONVERSATIONS_SQL, (ONE, [ONE])),
        (contact_views.LIST_PERSON_SQL, (ONE,)),
        (contact_views.LIST_ADDRESSES_SQL, ([ONE],)),
        (contact_views.LIST_FORMER_SQL, ([ONE],)),
        (contacts.LIST_PROVED_SQL, ([ONE],)),
        (contacts.FIND_CHANGED_SQL, (["phone"], ["+49000001234"], FIRST[0])),
        (contacts.GIVE_UP_SQL, ([ONE], ["phone"], ["+49000001234"], FIRST[0])),
        (contacts.IS_BARE_SQL, (ONE, ["phone"], ["+49000001234"], FIRST[0])),
        (contact_views.LIST_CONSENTS_SQL, (["phone"], ["+49000001234"])),
        (contact_views.FIND_OWNER_SQL, ("phone", "+49000001234")),
        (contact_views.MAY_SEE_SQL, (UUID(int=1), [ONE])),
        (profile_reach.LIST_HEARERS_SQL, ([ONE],)),
        (consents.TRACKING_SQL, ([ONE],)),
        (erasing.DROP_VISITS_SQL, ([ONE],)),
        (erasing.FORGET_CLICKS_SQL, ([ONE],)),
    )
    big = ("web_event", "visitor_binding", "landing", "contact_address", "consent_event", "contact_knower", "contact ")
    async with connected(database_url) as conn:
        await conn.execute(FILL)
        await conn.execute(SAID)
        await conn.execute("analyze")
        for sql, args in asked:
            plan = [row[0] for row in await conn.fetch(f"explain {sql}", *args)]
            walked = [line for line in plan if "Seq Scan on" in line and line.split("Seq Scan on ")[1].startswith(big)]
            walked = [line for line in walked if "(cost=0.00..0.00" not in line]  # a day's partition without anything
            assert not walked, "\n".join(plan)
        visits = await web_timeline.list_visits(conn, [ONE], LAST, 3, is_forward=False)
        assert [row["visitor_id"] for row in visits] == [ONE] * 3
        assert [row["at"] for row in visits] == sorted((row["at"] for row in visits), reverse=True)
        assert len(await web_timeline.list_clicks(conn, [ONE], FIRST, 3, is_forward=True)) == 1
