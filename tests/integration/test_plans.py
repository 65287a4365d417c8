"""Lists that are read page by page look at a page, however much there is beside it."""

from uuid import UUID

from hub.domain.time_places import END, START, TimePlace
from hub.store import conversations, overview
from tests.support.wire import connected

FILL = """
with n as (insert into number (e164) values ('+15550001111'), ('+15550002222') returning id),
     s as (insert into service (id, name, plan, scopes)
           select lpad(id::text, 32, '0')::uuid, 'service', 'bundle', '{read}' from n returning id),
     c as (insert into channel (id, number_id, kind) select lpad(id::text, 32, '0')::uuid, id, 'shared' from n
           returning id),
     u as (insert into subscription (id, channel_id, service_id) select id, id, id from c returning id),
     p as (insert into contact (id) select lpad(x::text, 32, '0')::uuid from generate_series(1, 3000) x returning id)
insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
select lpad(x::text, 32, '0')::uuid, 1 + (x > 2980)::int, lpad((1 + (x > 2980)::int)::text, 32, '0')::uuid, 'sms',
       lpad(x::text, 32, '0')::uuid, 'phone', '+1'
from generate_series(1, 3000) x"""
TALK = """
insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                     provider)
select gen_random_uuid(), 1, lpad('1', 32, '0')::uuid, lpad('1', 32, '0')::uuid, x, 'inbound', 'sms', 'text',
       'customer', '{}', 'twilio'
from generate_series(1, 1500) x"""
MANY_TALKS = """
insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                     provider, provider_time)
select gen_random_uuid(), 1, lpad('1', 32, '0')::uuid, lpad((1 + x % 100)::text, 32, '0')::uuid, x / 100, 'inbound',
       'sms', 'text', 'customer', '{}', 'twilio', case when x % 3 > 0 then now() - make_interval(secs => x % 70) end
from generate_series(0, 4999) x"""
FIRST, SECOND = UUID(int=1), UUID(int=2)


async def test_conversations_of_other_channels_are_not_walked_over(database_url: str) -> None:
    async with connected(database_url) as conn:
        await conn.execute(FILL)
        await conn.execute("analyze")
        for service, first in ((FIRST, 1), (SECOND, 2981)):
            rows = await conversations.list_in_reach(conn, service, UUID(int=0), 10)
            assert [row["id"] for row in rows] == [UUID(f"{first + place:032}") for place in range(10)]
            rows = await conversations.list_in_reach(conn, service, rows[-1]["id"], 10)
            assert rows[0]["id"] == UUID(f"{first + 10:032}")
        rows = await overview.list_conversations(conn, UUID(f"{2990:032}"), 5, "+15550002222")
        assert [row["id"] for row in rows] == [UUID(f"{number:032}") for number in range(2991, 2996)]
        for sql, args in (
            (conversations.LIST_IN_REACH_SQL, (SECOND, UUID(int=0), 10)),
            (overview.LIST_OF_NUMBER_SQL, (UUID(int=0), 10, "+15550002222")),
        ):
            lines = [row[0] for row in await conn.fetch(f"explain {sql}", *args)]
            assert any("conversation_channel" in line for line in lines), lines


async def test_d3_of_a_long_talk_only_the_end_is_looked_at_for_what_is_newer(database_url: str) -> None:
    async with connected(database_url) as conn:
        await conn.execute(TALK)
        (row,) = await conversations.list_newer(conn, FIRST, 0)
        assert (row["count"], row["sequence"]) == (conversations.MOST_NEWER, 1500)
        (row,) = await conversations.list_newer(conn, FIRST, 1490)
        assert (row["count"], row["sequence"]) == (10, 1500)


async def test_c3_a_timeline_by_time_is_sorted_within_its_conversation_only(database_url: str) -> None:
    async with connected(database_url) as conn:
        await conn.execute(MANY_TALKS)
        await conn.execute("analyze message")
        for is_forward, place in ((True, START), (False, END)):
            found, step = [], place
            while rows := await conversations.list_by_time(conn, FIRST, step, 7, is_forward=is_forward):
                found += [TimePlace(row["place_at"], row["sequence"]) for row in rows]
                step = found[-1]
            assert len(found) == len(set(found)) == 50
            assert found == sorted(found, reverse=not is_forward)
        for sql in (conversations.LIST_BEFORE_TIME_SQL, conversations.LIST_AFTER_TIME_SQL):
            lines = [row[0] for row in await conn.fetch(f"explain {sql}", FIRST, *END, 50)]
            assert any("message_timeline" in line for line in lines), lines
            assert not any("Seq Scan on message" in line for line in lines), lines
