"""The event log: appended under a lock per shard, so that within a shard the order of ids is the order of commits."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from hub.domain.events import Event, EventDraft
from hub.store.pool import Connection, Record

LOCK_SHARDS_SQL = "select shard, prev_id, ids from lock_shards($1::smallint[], $2::integer[])"
ADD_EVENTS_SQL = """
insert into event (id, shard, prev_id, type, number_id, channel_id, conversation_id, sequence, message_id,
                   author_service_id, audience, data, created_at)
select id, shard, prev_id, type, number_id, channel_id, conversation_id, sequence, message_id,
       author_service_id, string_to_array(audience, ',')::uuid[], data, created_at
from unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::text[], $5::bigint[], $6::uuid[], $7::uuid[], $8::bigint[],
            $9::uuid[], $10::uuid[], $11::text[], $12::text[], $13::timestamptz[])
     as e (id, shard, prev_id, type, number_id, channel_id, conversation_id, sequence, message_id, author_service_id,
           audience, data, created_at)"""


async def append(conn: Connection, drafts: Sequence[EventDraft]) -> list[Event]:
    """Give the drafts their places in the log, in this order within each shard. Takes the shards' locks to the end
    of the transaction: call it last (lock order: number, channel, contact, conversation, shards ascending).
    """
    if not drafts:
        return []
    places = await _draw_places(conn, drafts)
    events = [_place(draft, *places[draft.shard].pop()) for draft in drafts]
    columns = _columns(drafts, events)
    await conn.execute(ADD_EVENTS_SQL, *columns)
    return events


async def _draw_places(conn: Connection, drafts: Sequence[EventDraft]) -> dict[int, list[tuple[int, int]]]:
    """For each shard its (id, predecessor) pairs, the first to be used last in the list."""
    counts = Counter(draft.shard for draft in drafts)
    shards = sorted(counts)
    places = {}
    for row in await conn.fetch(LOCK_SHARDS_SQL, shards, [counts[shard] for shard in shards]):
        ids = row["ids"]
        pairs = list(zip(ids, [row["prev_id"], *ids[:-1]], strict=True))
        pairs.reverse()
        places[row["shard"]] = pairs
    return places


def _place(draft: EventDraft, event_id: int, prev_id: int) -> Event:
    return Event(
        event_id,
        draft.shard,
        prev_id,
        draft.type,
        draft.at,
        draft.channel_id,
        draft.conversation_id,
        draft.author_service_id,
        draft.audience,
        orjson.dumps(draft.data, option=orjson.OPT_UTC_Z).decode(),
    )


def _columns(drafts: Sequence[EventDraft], events: Sequence[Event]) -> tuple[list[Any], ...]:
    return (
        [event.id for event in events],
        [event.shard for event in events],
        [event.prev_id for event in events],
        [draft.type for draft in drafts],
        [draft.number_id for draft in drafts],
        [draft.channel_id for draft in drafts],
        [draft.conversation_id for draft in drafts],
        [draft.sequence for draft in drafts],
        [draft.message_id for draft in drafts],
        [draft.author_service_id for draft in drafts],
        [None if draft.audience is None else ",".join(map(str, draft.audience)) for draft in drafts],
        [event.data for event in events],
        [draft.at for draft in drafts],
    )


LIST_AFTER_SQL = """
select e.* from unnest($1::smallint[], $2::bigint[]) as p (shard, position),
lateral (
    select id, shard, prev_id, type, created_at, channel_id, conversation_id, author_service_id, audience, data
    from event where event.shard = p.shard and event.id > p.position order by event.id limit $3
) e
order by e.id"""


async def list_after(conn: Connection, positions: dict[int, int], limit: int) -> list[Event]:
    """Events beyond a position in each shard, at most `limit` of each shard, oldest first."""
    shards = sorted(positions)
    rows = await conn.fetch(LIST_AFTER_SQL, shards, [positions[shard] for shard in shards], limit)
    return [_read_event(row) for row in rows]


def _read_event(row: Record) -> Event:
    at: datetime = row["created_at"]
    return Event(
        row["id"],
        row["shard"],
        row["prev_id"],
        row["type"],
        at,
        row["channel_id"],
        row["conversation_id"],
        row["author_service_id"],
        row["audience"],
        row["data"],
    )


HEADS_SQL = """
select s.shard::int as shard, coalesce((select max(id) from event where event.shard = s.shard), 0) as head
from generate_series(0, 63) as s (shard)"""


async def find_heads(conn: Connection) -> dict[int, int]:
    """The last committed id of every shard: where a new subscriber starts."""
    return {row["shard"]: row["head"] for row in await conn.fetch(HEADS_SQL)}


LIST_RECENT_SQL = """
select id, shard, prev_id, type, created_at, channel_id, conversation_id, author_service_id, audience, data
from event where id > $1 order by id limit $2"""


async def list_recent(conn: Connection, after: int, limit: int) -> list[Event]:
    """Events of all shards by id, for the operator to look at: near the end of the log, ids may still appear below."""
    return [_read_event(row) for row in await conn.fetch(LIST_RECENT_SQL, after, limit)]


MAKE_PARTITIONS_SQL = "select make_partitions(1000000, 7)"


async def make_partitions(conn: Connection) -> None:
    """Make the partitions of log and attempts that the coming days need."""
    await conn.execute(MAKE_PARTITIONS_SQL)
