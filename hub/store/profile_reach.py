"""Who may know of a profile (rule H5): services with the scope `profiles` that have a conversation with the contact on
a channel of theirs, or an identify call of their own.
"""

from collections.abc import Collection
from uuid import UUID

from hub.store.pool import Connection, Record

# The whole of each profile: up to whom a contact goes on as, and down to all that were merged into that. Services that
# know it by an identify call only hear of it on the channel they were the first to connect to.
LIST_HEARERS_SQL = """
with recursive up as (
    select id, merged_into from contact where id = any($1::uuid[])
    union
    select c.id, c.merged_into from up cross join lateral (select * from contact where id = up.merged_into offset 0) c
), person as (
    select id from up
    union
    select c.id from person p cross join lateral (select id from contact where merged_into = p.id offset 0) c
), talk as (
    select distinct t.channel_id from person p
    cross join lateral (select channel_id from conversation where contact_id = p.id offset 0) t
), hearer as (
    select t.channel_id, u.service_id
    from talk t join subscription u on u.channel_id = t.channel_id and u.disconnected_at is null
    join service s on s.id = u.service_id and 'profiles' = any(s.scopes)
), knower as (
    select distinct k.service_id from person p
    cross join lateral (select service_id from contact_knower where contact_id = p.id offset 0) k
    join service s on s.id = k.service_id and 'profiles' = any(s.scopes)
    where k.service_id not in (select service_id from hearer)
)
select c.id as channel_id, n.id as number_id, n.e164, array_agg(h.service_id order by h.service_id) as services
from (
    select channel_id, service_id from hearer
    union all
    select u.channel_id, k.service_id from knower k
    cross join lateral (
        select channel_id from subscription u where u.service_id = k.service_id and u.disconnected_at is null
        order by u.connected_at, u.id limit 1) u
) h
join channel c on c.id = h.channel_id join number n on n.id = c.number_id
group by c.id, n.id, n.e164 order by c.id"""


async def list_hearers(conn: Connection, contact_ids: Collection[UUID]) -> list[Record]:
    """The services that hear of what happens to these contacts' profiles, by the channel they hear it on."""
    return await conn.fetch(LIST_HEARERS_SQL, list(contact_ids)) if contact_ids else []
