"""What could not be delivered: dead letters, and lanes that are parked at an event that fails (rule G3)."""

from datetime import datetime
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

# Each subscription gives its own first rows by its key, however many there are.
LIST_DEAD_SQL = """
select d.event_id, d.attempts, d.last_error, d.at, n.e164, e.type, e.conversation_id, e.created_at as event_at,
       u.id as subscription_id, u.service_id, v.name as service_name,
       exists (
           select from parked_lane p where p.subscription_id = u.id and p.first_event_id = d.event_id
             and p.lane = coalesce(e.conversation_id, e.channel_id) and p.next_attempt_at = 'infinity') as is_held
from subscription u
join service v on v.id = u.service_id
join channel c on c.id = u.channel_id
join number n on n.id = c.number_id
cross join lateral (
    select * from dead_letter d
    where d.subscription_id = u.id and d.event_id >= $3 and (d.event_id > $3 or d.subscription_id > $5)
    order by d.event_id limit $4
) d
left join event e on e.id = d.event_id
where ($1::uuid is null or u.service_id = $1) and u.disconnected_at is null and ($2::text is null or n.e164 = $2)
order by d.event_id, d.subscription_id limit $4"""
LIST_PARKED_SQL = """
select p.lane, p.first_event_id, p.attempts, p.last_error, p.parked_at, p.next_attempt_at = 'infinity' as is_held,
       nullif(p.next_attempt_at, 'infinity') as next_attempt_at, n.e164, u.channel_id,
       u.id as subscription_id, u.service_id, v.name as service_name
from subscription u
join service v on v.id = u.service_id
join channel c on c.id = u.channel_id
join number n on n.id = c.number_id
cross join lateral (
    select * from parked_lane p
    where p.subscription_id = u.id and p.lane >= $3 and (p.lane > $3 or p.subscription_id > $5)
    order by p.lane limit $4
) p
where ($1::uuid is null or u.service_id = $1) and u.disconnected_at is null and ($2::text is null or n.e164 = $2)
order by p.lane, p.subscription_id limit $4"""
_LAST: Final = UUID(int=2**128 - 1)


async def list_dead(
    conn: Connection, service_id: UUID | None, e164: str | None, after: int, limit: int, *, subscription: UUID = _LAST
) -> list[Record]:
    """Events that were given up for a service, or (None) for all of them, on one number or on all, by age. Of several
    services one event may be there several times: `subscription` is the last that was seen of the event `after`.
    """
    return await conn.fetch(LIST_DEAD_SQL, service_id, e164, after, limit, subscription)


async def list_parked(
    conn: Connection, service_id: UUID | None, e164: str | None, after: UUID, limit: int, *, subscription: UUID = _LAST
) -> list[Record]:
    """Lanes of a service, or (None) of all of them, that fail and wait, on one number or on all, by conversation.
    `subscription` is the last that was seen of the lane `after`.
    """
    return await conn.fetch(LIST_PARKED_SQL, service_id, e164, after, limit, subscription)


LIST_FAILED_SQL = """
select d.event_id, e.shard from dead_letter d left join event e on e.id = d.event_id
where d.subscription_id = $1 and ($2::timestamptz is null or e.created_at >= $2)
  and ($3::timestamptz is null or e.created_at < $3)
  and ($4::uuid is null or coalesce(e.conversation_id, e.channel_id) = $4)
order by d.event_id limit $5"""


async def list_failed(
    conn: Connection,
    subscription_id: UUID,
    since: datetime | None,
    until: datetime | None,
    lane: UUID | None,
    limit: int,
) -> list[Record]:
    """Dead letters with their shards; no shard where the log has dropped the event."""
    return await conn.fetch(LIST_FAILED_SQL, subscription_id, since, until, lane, limit)


DROP_DEAD_SQL = """
with dropped as (
    delete from dead_letter d
    using subscription u
    join channel c on c.id = u.channel_id
    join number n on n.id = c.number_id
    where d.subscription_id = u.id and u.service_id = $1 and u.disconnected_at is null
      and ($2::text is null or n.e164 = $2) and ($3::bigint is null or d.event_id = $3)
    returning d.subscription_id, d.event_id
), freed as (
    update parked_lane p set first_event_id = p.first_event_id + 1, attempts = 0, next_attempt_at = now()
    from dropped d
    where p.subscription_id = d.subscription_id and p.first_event_id = d.event_id and p.next_attempt_at = 'infinity'
    returning 1
)
select (select count(*) from dropped) as dropped, (select count(*) from freed) as freed"""
FREE_LANES_SQL = """
update parked_lane p set attempts = 0, next_attempt_at = now()
from replay r join replay_shard s on s.replay_id = r.id
where r.id = $1 and p.subscription_id = r.subscription_id and p.shard = s.shard and p.next_attempt_at = 'infinity'
  and p.first_event_id > s.position and p.first_event_id <= s.upto
  and (r.lane is null or p.lane = r.lane) and (r.only_ids is null or p.first_event_id = any(r.only_ids))"""
RAISE_VERSION_SQL = "update roster_version set version = version + 1"


async def drop_dead(conn: Connection, service_id: UUID, e164: str | None, event_id: int | None) -> int:
    """Drop one dead letter of a service or all; lanes that were held for one go on behind it. Gives how many."""
    row = await conn.fetchrow(DROP_DEAD_SQL, service_id, e164, event_id)
    assert row is not None
    if row["freed"]:
        await conn.execute(RAISE_VERSION_SQL)
    dropped: int = row["dropped"]
    return dropped


async def free_lanes(conn: Connection, replay_id: UUID) -> None:
    """Lanes that are held for an event that this replay repeats go on with it."""
    await conn.execute(FREE_LANES_SQL, replay_id)
