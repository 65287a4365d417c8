"""What has changed since one looked last, told by ids: for viewers who look again themselves (the console's hints)."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

_SPAN: Final = 20_000
"""Ids looked at in one call, as for the log's other readers."""

# The log as `event_log.list_unread` reads it, but for what it says: only where something happened.
LIST_HINTS_SQL = """
with low as (
    select min(first.id) as id from unnest($1::bigint[]) with ordinality as p (position, n),
    lateral (
        select id from event where shard = (p.n - 1)::smallint and event.id > p.position order by event.id limit 1
    ) first
)
select e.id, e.shard, e.type, e.channel_id, e.conversation_id, e.message_id, e.audience, c.contact_id
from event e left join conversation c on c.id = e.conversation_id
where e.id between (select id from low) and (select id from low) + $3 and e.id > ($1::bigint[])[e.shard + 1]
order by e.id limit $2"""
LIST_REACHES_SQL = """
select service_id, channel_id from subscription where service_id = any($1::uuid[]) and disconnected_at is null"""
FIND_MARKS_SQL = """
select (select version from roster_version) as roster,
       (select coalesce(max(id), 0) from audit) as audit,
       (select coalesce(max(id), 0) from quarantine) as quarantined,
       (select count(*) from (select from quarantine where state = 'open' limit 1001) q) as quarantine_open,
       (select coalesce(max(id), 0) from delivered) as delivered"""
# Only recent attempts: partitions of earlier days are not opened.
LIST_DELIVERY_MARKS_SQL = """
select s.service_id, s.id, s.state,
       (select max(a.at) from attempt a
        where a.subscription_id = s.id and a.at > now() - interval '10 minutes') as tried_at,
       (select string_agg(concat_ws(' ', d.breaker, d.waiting, d.behind, d.parked), ',' order by d.owner)
        from delivery_state d where d.subscription_id = s.id) as seen
from subscription s where s.disconnected_at is null"""


async def list_hints(conn: Connection, positions: Sequence[int], limit: int) -> list[Record]:
    """What happened beyond these positions, one for each shard: ids and types only, lowest ids first."""
    return await conn.fetch(LIST_HINTS_SQL, positions, limit, _SPAN)


async def list_reaches(conn: Connection, services: Collection[UUID]) -> dict[UUID, set[UUID]]:
    """The channels each of these services is connected to."""
    reaches: dict[UUID, set[UUID]] = {service: set() for service in services}
    for row in await conn.fetch(LIST_REACHES_SQL, list(services)):
        reaches[row["service_id"]].add(row["channel_id"])
    return reaches


async def find_marks(conn: Connection) -> dict[str, int]:
    """Numbers that are other ones as soon as something changed: roster, audit trail, quarantine, deliveries."""
    row = await conn.fetchrow(FIND_MARKS_SQL)
    assert row is not None
    return dict(row)


async def list_delivery_marks(conn: Connection) -> dict[UUID, frozenset[tuple[object, ...]]]:
    """By service, what is other than before as soon as deliveries to it stand otherwise."""
    marks: dict[UUID, set[tuple[object, ...]]] = {}
    for row in await conn.fetch(LIST_DELIVERY_MARKS_SQL):
        marks.setdefault(row["service_id"], set()).add(tuple(row.values()))
    return {service: frozenset(seen) for service, seen in marks.items()}
