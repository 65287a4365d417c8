"""Clicks of people that services have not been told of yet."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from hub.store import leases
from hub.store.pool import Connection, Record

_TELLING: Final = (leases.CLASS, leases.TELLER)
"""Beside the roles of `leases`; held for one transaction."""

ANY_UNTOLD_SQL = "select exists (select from click_untold)"


async def is_any(conn: Connection) -> bool:
    """Whether there is anything to tell."""
    found: bool = await conn.fetchval(ANY_UNTOLD_SQL)
    return found


TRY_LOCK_SQL = "select pg_try_advisory_xact_lock($1, $2)"


async def try_lock(conn: Connection) -> bool:
    """Be the one who tells, to the end of the transaction; False where another process does."""
    is_mine: bool = await conn.fetchval(TRY_LOCK_SQL, *_TELLING)
    return is_mine


# Rows are looked up one by one: a hash join would read all clicks of the day. The ids of clicks are in the order of
# their time. Of one that retention has dropped, or of a link that is gone, the rest is missing. The links of somebody
# who was erased go on, without them (is_erased). One of a scheduled message begins when that is due, and was written
# before.
TAKE_UNTOLD_SQL = """
with taken as (
    delete from click_untold where click_id in (select click_id from click_untold order by click_id limit $1)
    returning click_id, at, link_id
)
select t.click_id, t.at, c.kind, c.opted_out, l.id as link_id, l.target, l.place, l.campaign, l.service_id,
       l.channel_id, l.conversation_id, l.message_id, l.contact_id, l.created_at,
       coalesce(m.created_at, l.created_at) as written_at, p.erased_at is not null as is_erased
from taken t
left join lateral (select * from click where id = t.click_id and at = t.at offset 0) c on true
left join lateral (select * from tracked_link where id = t.link_id offset 0) l on true
left join lateral (select created_at from message where id = l.message_id offset 0) m on true
left join lateral (select * from conversation where id = l.conversation_id offset 0) v on true
left join lateral (select * from contact where id = v.contact_id offset 0) p on true
order by t.click_id"""


async def take(conn: Connection, limit: int) -> list[Record]:
    """The first clicks, with their links; they are untold no more, if the transaction commits."""
    return await conn.fetch(TAKE_UNTOLD_SQL, limit)


LIST_HEARERS_SQL = """
select c.id as channel_id, n.id as number_id, n.e164, array_agg(s.id order by s.id) as services
from channel c
join number n on n.id = c.number_id
join subscription u on u.channel_id = c.id and u.disconnected_at is null
join service s on s.id = u.service_id and 'profiles' = any(s.scopes)
where c.id = any($1::uuid[]) group by c.id, n.id, n.e164"""
LIST_HOMES_SQL = """
select s.id as service_id, u.channel_id, n.id as number_id, n.e164
from service s
cross join lateral (
    select channel_id from subscription where service_id = s.id and disconnected_at is null
    order by connected_at, id limit 1) u
join channel c on c.id = u.channel_id
join number n on n.id = c.number_id
where s.id = any($1::uuid[]) and 'profiles' = any(s.scopes)"""


async def list_hearers(conn: Connection, channel_ids: Collection[UUID]) -> dict[UUID, Record]:
    """Who may hear of clicks on these channels: their services with the scope `profiles` (H5), where there are any."""
    rows = await conn.fetch(LIST_HEARERS_SQL, list(channel_ids)) if channel_ids else []
    return {row["channel_id"]: row for row in rows}


async def list_homes(conn: Connection, service_ids: Collection[UUID]) -> dict[UUID, Record]:
    """The channel that each of these services was first to connect to, of those that may hear of clicks at all."""
    rows = await conn.fetch(LIST_HOMES_SQL, list(service_ids)) if service_ids else []
    return {row["service_id"]: row for row in rows}


# As `profile_reach.LIST_HEARERS_SQL` has it: by a conversation with any part of the profile, or an identify call.
LIST_KNOWING_SQL = """
with recursive given as (
    select distinct g.contact_id, g.service_id from unnest($1::uuid[], $2::uuid[]) as g (contact_id, service_id)
), up as (
    select g.contact_id as root, c.id, c.merged_into from (select distinct contact_id from given) g
    cross join lateral (select * from contact where id = g.contact_id offset 0) c
    union
    select up.root, c.id, c.merged_into
    from up cross join lateral (select * from contact where id = up.merged_into offset 0) c
), person as (
    select root, id from up
    union
    select p.root, c.id
    from person p cross join lateral (select id from contact where merged_into = p.id offset 0) c
)
select g.contact_id, g.service_id from given g
where exists (
    select from person p
    cross join lateral (select channel_id from conversation where contact_id = p.id offset 0) t
    join subscription u on u.channel_id = t.channel_id and u.disconnected_at is null
    where p.root = g.contact_id and u.service_id = g.service_id
) or exists (
    select from person p
    cross join lateral (select service_id from contact_knower where contact_id = p.id offset 0) k
    where p.root = g.contact_id and k.service_id = g.service_id)"""


async def list_knowing(conn: Connection, wanted: Collection[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """Of these pairs of a contact and a service, those where the service may know of the contact's profile (H5)."""
    pairs = sorted(wanted)
    rows = await conn.fetch(LIST_KNOWING_SQL, [c for c, _ in pairs], [s for _, s in pairs]) if pairs else []
    return {(row["contact_id"], row["service_id"]) for row in rows}
