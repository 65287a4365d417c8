"""What the list of numbers says of each: who is parent, how many are connected (rules A2, A9)."""

from collections.abc import Collection, Mapping
from uuid import UUID

from hub.store.pool import Connection, Record

LIST_SUMMARIES_SQL = """
select c.number_id, c.id as channel_id, c.parent_epoch, p.service_id as parent_id, p.name as parent_name,
       p.parent_since, m.members, m.paused,
       (select count(*) from channel x join subscription u on u.channel_id = x.id
        where x.number_id = c.number_id and x.kind = 'standalone' and u.disconnected_at is null) as standalone
from channel c
left join lateral (
    select u.service_id, s.name, u.parent_since from subscription u join service s on s.id = u.service_id
    where u.channel_id = c.id and u.is_parent) p on true
cross join lateral (
    select count(*) as members, count(*) filter (where u.state = 'paused') as paused from subscription u
    where u.channel_id = c.id and u.disconnected_at is null) m
where c.number_id = any($1::bigint[]) and c.kind = 'shared'"""
LIST_OWN_SQL = """
select c.number_id, u.id, u.is_parent, u.state, u.endpoint_url, c.kind
from subscription u join channel c on c.id = u.channel_id
where u.service_id = $2 and u.disconnected_at is null and c.number_id = any($1::bigint[])"""


async def list_summaries(conn: Connection, number_ids: Collection[int]) -> Mapping[int, Record]:
    """The shared channel of each of these numbers: parent, epoch, how many are connected, and paused; and how many
    services have channels of their own.
    """
    return {row["number_id"]: row for row in await conn.fetch(LIST_SUMMARIES_SQL, list(number_ids))}


async def list_own(conn: Connection, number_ids: Collection[int], service_id: UUID) -> Mapping[int, Record]:
    """A service's connections to these numbers."""
    return {row["number_id"]: row for row in await conn.fetch(LIST_OWN_SQL, list(number_ids), service_id)}
