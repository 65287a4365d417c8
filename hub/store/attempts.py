"""What was attempted, newest first: failures are rows of their own, what was accepted is packed, a row per flush."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from hub.store.pool import Connection, Record

LIST_FAILED_SQL = """
select u.id as subscription_id, a.* from unnest($1::uuid[]) u (id)
cross join lateral (
    select a.event_id, a.at, a.outcome, a.http_status, a.duration_ms, a.detail from attempt a
    where a.subscription_id = u.id and a.at <= $2
      and (a.at < $2 or a.event_id < $3 or (a.event_id = $3 and a.subscription_id < $6))
      and ($4::text is null or a.outcome = $4)
    order by a.at desc, a.event_id desc limit $5
) a
order by a.at desc, a.event_id desc, u.id desc limit $5"""
LIST_FAILED_OF_EVENT_SQL = """
select a.subscription_id, a.event_id, a.at, a.outcome, a.http_status, a.duration_ms, a.detail from attempt a
where a.subscription_id = any($1::uuid[]) and a.shard = $2 and a.event_id = $3 and a.at <= $4
order by a.at desc, a.subscription_id desc limit $5"""
LIST_PACKED_BEFORE_SQL = "select at, entries from delivered where at <= $1 order by at desc limit $2"
LIST_PACKED_AFTER_SQL = "select at, entries from delivered where at >= $1 order by at limit $2"
FIND_TYPES_SQL = "select id, type from event where id = any($1::bigint[])"
FIND_EVENT_SQL = "select shard, created_at, channel_id from event where id = $1"
LIST_HEARERS_SQL = "select id from subscription where id = any($1::uuid[]) and channel_id = $2"


async def list_failed(
    conn: Connection,
    subscription_ids: Collection[UUID],
    before: tuple[datetime, int, UUID],
    outcome: str | None,
    limit: int,
) -> list[Record]:
    """Attempts that failed before this time, or at it with an event below this one, or with the same for a lesser
    subscription.
    """
    at, event_id, subscription_id = before
    return await conn.fetch(LIST_FAILED_SQL, subscription_ids, at, event_id, outcome, limit, subscription_id)


async def list_failed_of_event(
    conn: Connection, subscription_ids: Collection[UUID], shard: int, event_id: int, at: datetime, limit: int
) -> list[Record]:
    """Attempts of one event that failed up to this time."""
    return await conn.fetch(LIST_FAILED_OF_EVENT_SQL, subscription_ids, shard, event_id, at, limit)


async def list_packed_before(conn: Connection, at: datetime, limit: int) -> list[Record]:
    """Flushes of accepted deliveries up to this time, newest first; `deliveries.unpack` reads their `entries`."""
    return await conn.fetch(LIST_PACKED_BEFORE_SQL, at, limit)


async def list_packed_after(conn: Connection, at: datetime, limit: int) -> list[Record]:
    """The same from this time on, oldest first."""
    return await conn.fetch(LIST_PACKED_AFTER_SQL, at, limit)


async def find_types(conn: Connection, event_ids: Collection[int]) -> dict[int, str]:
    """The types of events, as far as the log has them."""
    return {row["id"]: row["type"] for row in await conn.fetch(FIND_TYPES_SQL, event_ids)}


async def find_event(conn: Connection, event_id: int) -> Record | None:
    """The shard, time and channel of an event."""
    return await conn.fetchrow(FIND_EVENT_SQL, event_id)


async def list_hearers(conn: Connection, subscription_ids: Collection[UUID], channel_id: UUID) -> list[UUID]:
    """Those of these subscriptions that are to this channel."""
    return [row["id"] for row in await conn.fetch(LIST_HEARERS_SQL, subscription_ids, channel_id)]
