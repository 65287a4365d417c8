"""Where single events went: the events of a message, who was to hear them, and how far each hearer came."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from hub.domain.events import Event
from hub.store.event_log import read_event
from hub.store.pool import Connection, Record

# In a conversation's own events, from a place on: the log has no index by message.
LIST_OF_MESSAGE_SQL = """
select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
       author_service_id, audience, data, written_at, picked_up_by
from event where coalesce(conversation_id, channel_id) = $1 and id > $2 and message_id = $3 order by id limit $4"""
FIND_EVENT_SQL = """
select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
       author_service_id, audience, data, written_at, picked_up_by, message_id
from event where id = $1"""


async def list_of_message(
    conn: Connection, conversation_id: UUID, after: int, message_id: UUID, limit: int
) -> list[Event]:
    """The events about a message, oldest first."""
    return [read_event(row) for row in await conn.fetch(LIST_OF_MESSAGE_SQL, conversation_id, after, message_id, limit)]


async def find_event(conn: Connection, number: int) -> tuple[Event, UUID | None] | None:
    """An event and the message that it is about; None where the log has none such, or none such any more."""
    row = await conn.fetchrow(FIND_EVENT_SQL, number)
    return (read_event(row), row["message_id"]) if row else None


# Who was connected at the time or came since, each of them only where it began to hear before the event.
LIST_HEARERS_SQL = """
select u.id, u.channel_id, u.service_id, s.name, n.e164, u.endpoint_url, u.event_types, u.state, u.paused_at,
       u.connected_at, u.disconnected_at, u.start_positions, u.is_parent, u.display, c.kind, c.parent_epoch,
       n.standalone_may_automate
from subscription u
join service s on s.id = u.service_id
join channel c on c.id = u.channel_id
join number n on n.id = c.number_id
where u.channel_id = $1 and ($2::uuid is null or u.service_id = $2)
  and (u.disconnected_at is null or u.disconnected_at > $3)
order by u.rank limit $4"""


async def list_hearers(
    conn: Connection, channel_id: UUID, service_id: UUID | None, since: datetime, limit: int
) -> list[Record]:
    """Subscriptions to a channel, of one service or all, that were not over at that time, by rank."""
    return await conn.fetch(LIST_HEARERS_SQL, channel_id, service_id, since, limit)


# A look-up for each pair, whatever the planner thinks of the tables.
LIST_STANDINGS_SQL = """
select w.subscription_id, w.event_id, c.position >= w.event_id or w.event_id = any(c.done) as is_settled,
       p.first_event_id, p.attempts as parked_attempts, p.last_error as parked_error, p.parked_at,
       p.next_attempt_at = 'infinity' as is_held, nullif(p.next_attempt_at, 'infinity') as next_attempt_at,
       d.attempts as dead_attempts, d.last_error as dead_last_error, d.at as dead_at,
       exists (select from expired_range x where x.subscription_id = w.subscription_id
               and x.after_event_id < w.event_id and w.event_id <= x.upto_event_id) as is_expired
from unnest($1::uuid[], $2::bigint[]) w (subscription_id, event_id)
left join lateral (
    select * from cursor where subscription_id = w.subscription_id and shard = $3 offset 0) c on true
left join lateral (
    select * from parked_lane
    where subscription_id = w.subscription_id and lane = $4 and first_event_id <= w.event_id offset 0) p on true
left join lateral (
    select * from dead_letter where subscription_id = w.subscription_id and event_id = w.event_id offset 0) d on true"""
LIST_FAILED_SQL = """
select a.subscription_id, a.event_id, a.at, a.outcome, a.http_status, a.duration_ms, a.detail
from unnest($1::uuid[], $2::bigint[]) w (subscription_id, event_id)
cross join lateral (
    select * from attempt a
    where a.subscription_id = w.subscription_id and a.shard = $3 and a.event_id = w.event_id
    order by a.at desc limit $4) a
order by a.at"""


async def list_standings(
    conn: Connection, pairs: Sequence[tuple[UUID, int]], shard: int, lane: UUID
) -> dict[tuple[UUID, int], Record]:
    """How subscriptions stand to events of one lane: settled, parked, dead, expired."""
    if not pairs:
        return {}
    rows = await conn.fetch(LIST_STANDINGS_SQL, *map(list, zip(*pairs, strict=True)), shard, lane)
    return {(row["subscription_id"], row["event_id"]): row for row in rows}


async def list_failed(
    conn: Connection, pairs: Collection[tuple[UUID, int]], shard: int, limit: int
) -> dict[tuple[UUID, int], list[Record]]:
    """The last failed attempts at events of one shard, oldest first."""
    found: dict[tuple[UUID, int], list[Record]] = {}
    if pairs:
        for row in await conn.fetch(LIST_FAILED_SQL, *map(list, zip(*pairs, strict=True)), shard, limit):
            found.setdefault((row["subscription_id"], row["event_id"]), []).append(row)
    return found
