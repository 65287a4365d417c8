"""The event log: appended under a lock per shard, so that within a shard the order of ids is the order of commits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from hub.domain.events import Event, EventDraft
from hub.store.pool import Connection, Record

LOCK_SHARDS_SQL = "select prev_ids, ids from lock_shards($1::smallint[], $2)"
COLUMNS: Final = (
    "id", "shard", "prev_id", "type", "number_id", "channel_id", "conversation_id", "sequence",
    "reply_window_expires_at", "message_id", "author_service_id", "audience", "data", "created_at",
)  # fmt: skip


async def append(conn: Connection, drafts: Sequence[EventDraft]) -> list[Event]:
    """Give the drafts their places in the log, in this order within each shard. Takes the shards' locks to the end
    of the transaction: call it last (lock order: number, channel, contact, conversation, shards ascending).
    """
    if not drafts:
        return []
    shards = sorted({draft.shard for draft in drafts})
    drawn = await conn.fetchrow(LOCK_SHARDS_SQL, shards, len(drafts))
    assert drawn is not None
    last = dict(zip(shards, drawn["prev_ids"], strict=True))
    events = []
    for draft, event_id in zip(drafts, sorted(drawn["ids"]), strict=True):
        events.append(_place(draft, event_id, last[draft.shard]))
        last[draft.shard] = event_id
    rows = [_row(draft, event) for draft, event in zip(drafts, events, strict=True)]
    await conn.copy_records_to_table("event", records=rows, columns=COLUMNS)
    return events


def _place(draft: EventDraft, event_id: int, prev_id: int) -> Event:
    return Event(
        event_id,
        draft.shard,
        prev_id,
        draft.type,
        draft.at,
        draft.channel_id,
        draft.conversation_id,
        draft.sequence,
        draft.reply_window_expires_at,
        draft.author_service_id,
        draft.audience,
        orjson.dumps(draft.data, option=orjson.OPT_UTC_Z).decode(),
    )


def _row(draft: EventDraft, event: Event) -> tuple[Any, ...]:
    return (
        event.id, event.shard, event.prev_id, event.type, draft.number_id, event.channel_id, event.conversation_id,
        event.sequence, event.reply_window_expires_at, draft.message_id, event.author_service_id, event.audience,
        event.data, event.at,
    )  # fmt: skip


LIST_AFTER_SQL = """
select e.* from unnest($1::smallint[], $2::bigint[]) as p (shard, position),
lateral (
    select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
           author_service_id, audience, data
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
        row["sequence"],
        row["reply_window_expires_at"],
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
select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
           author_service_id, audience, data
from event where id > $1 order by id limit $2"""


async def list_recent(conn: Connection, after: int, limit: int) -> list[Event]:
    """Events of all shards by id, for the operator to look at: near the end of the log, ids may still appear below."""
    return [_read_event(row) for row in await conn.fetch(LIST_RECENT_SQL, after, limit)]


MAKE_PARTITIONS_SQL = "select make_partitions(1000000, 7)"


async def make_partitions(conn: Connection) -> None:
    """Make the partitions of log and attempts that the coming days need: alone in a transaction, which it keeps short.
    Raises `Unavailable` where a lock is not to be had at once.
    """
    await conn.execute(MAKE_PARTITIONS_SQL)
