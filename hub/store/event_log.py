"""The event log: appended under a lock per shard, so that within a shard the order of ids is the order of commits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.domain.events import Event, EventDraft
from hub.store.pool import Connection, Record

LOCK_SHARDS_SQL = "select prev_ids, ids from lock_shards($1::smallint[], $2)"
COLUMNS: Final = (
    "id", "shard", "prev_id", "type", "number_id", "channel_id", "conversation_id", "sequence",
    "reply_window_expires_at", "message_id", "author_service_id", "audience", "data", "created_at", "written_at",
    "picked_up_by",
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
        draft.written_at,
        draft.picked_up_by,
    )


def _row(draft: EventDraft, event: Event) -> tuple[Any, ...]:
    return (
        event.id, event.shard, event.prev_id, event.type, draft.number_id, event.channel_id, event.conversation_id,
        event.sequence, event.reply_window_expires_at, draft.message_id, event.author_service_id, event.audience,
        event.data, event.at, event.written_at, event.picked_up_by,
    )  # fmt: skip


LIST_AFTER_SQL = """
select e.* from unnest($1::smallint[], $2::bigint[]) as p (shard, position),
lateral (
    select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
           author_service_id, audience, data, written_at, picked_up_by
    from event where event.shard = p.shard and event.id > p.position order by event.id limit $3
) e
order by e.id"""


async def list_after(conn: Connection, positions: dict[int, int], limit: int) -> list[Event]:
    """Events beyond a position in each shard, at most `limit` of each shard, oldest first."""
    shards = sorted(positions)
    rows = await conn.fetch(LIST_AFTER_SQL, shards, [positions[shard] for shard in shards], limit)
    return [read_event(row) for row in rows]


def read_event(row: Record) -> Event:
    """An event in a row of the log."""
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
        row["written_at"],
        row["picked_up_by"],
    )


LIST_LANE_SQL = """
select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
       author_service_id, audience, data, written_at, picked_up_by
from event where coalesce(conversation_id, channel_id) = $1 and id >= $2 and id <= $3 order by id limit $4"""


async def list_lane(conn: Connection, lane: UUID, first: int, last: int, limit: int) -> list[Event]:
    """One conversation's events (or a channel's, of no conversation) from `first` to `last`, oldest first."""
    return [read_event(row) for row in await conn.fetch(LIST_LANE_SQL, lane, first, last, limit)]


LIST_SHARD_SQL = """
select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
       author_service_id, audience, data, written_at, picked_up_by
from event where shard = $1 and id > $2 and id <= $3 order by id limit $4"""


async def list_shard(conn: Connection, shard: int, after: int, upto: int, limit: int) -> list[Event]:
    """Events of one shard, oldest first."""
    return [read_event(row) for row in await conn.fetch(LIST_SHARD_SQL, shard, after, upto, limit)]


PULSE_SQL = """
select (select last_value from event_id_seq) as last_id, (select version from roster_version) as version"""


async def find_pulse(conn: Connection) -> tuple[int, int]:
    """The last id that was drawn, committed or not; and the roster's version."""
    row = await conn.fetchrow(PULSE_SQL)
    assert row is not None
    return row["last_id"], row["version"]


HEADS_SQL = """
select s.shard::int as shard, coalesce((select max(id) from event where event.shard = s.shard), 0) as head
from generate_series(0, 63) as s (shard)"""


async def find_heads(conn: Connection) -> dict[int, int]:
    """The last committed id of every shard: where a new subscriber starts."""
    return {row["shard"]: row["head"] for row in await conn.fetch(HEADS_SQL)}


LIST_RECENT_SQL = """
select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
           author_service_id, audience, data, written_at, picked_up_by
from event where id > $1 order by id limit $2"""


async def list_recent(conn: Connection, after: int, limit: int) -> list[Event]:
    """Events of all shards by id, for the operator to look at: near the end of the log, ids may still appear below."""
    return [read_event(row) for row in await conn.fetch(LIST_RECENT_SQL, after, limit)]


LIST_UNREAD_SQL = """
with low as (
    select min(first.id) as id from unnest($1::bigint[]) with ordinality as p (position, n),
    lateral (
        select id from event where shard = (p.n - 1)::smallint and event.id > p.position order by event.id limit 1
    ) first
)
select id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
       author_service_id, audience, case when channel_id = any($2::uuid[]) then data else '' end as data,
       written_at, picked_up_by
from event
where id between (select id from low) and (select id from low) + $4 and id > ($1::bigint[])[shard + 1]
order by id limit $3"""
_SPAN: Final = 20_000
"""Ids looked at in one call: where one shard stands far behind the others, most of what follows it is read already."""


async def list_unread(conn: Connection, positions: Sequence[int], channels: Sequence[UUID], limit: int) -> list[Event]:
    """The lowest `limit` ids, or fewer, of what lies beyond these positions, one for each shard; none only where there
    is nothing. Events of other channels come without their data.
    """
    return [read_event(row) for row in await conn.fetch(LIST_UNREAD_SQL, positions, channels, limit, _SPAN)]


HOLD_SNAPSHOT_SQL = "set transaction isolation level repeatable read, read only"
FIND_BEFORE_SQL = "select event_id_before($1)"
FIND_HOLE_SQL = r"""
select case when not exists (select from event where id <= $1) then (
    select min(substring(pg_get_expr(c.relpartbound, c.oid) from 'FROM \(''(\d+)''\)')::bigint) - 1
    from pg_partition_tree('event') t join pg_class c on c.oid = t.relid where t.isleaf
) end"""


async def hold_snapshot(conn: Connection) -> None:
    """Let all that this transaction will read be of one moment; call it first."""
    await conn.execute(HOLD_SNAPSHOT_SQL)


async def find_before(conn: Connection, moment: datetime) -> int:
    """An id that every event of this time or later is above."""
    found: int = await conn.fetchval(FIND_BEFORE_SQL, moment)
    return found


async def find_hole(conn: Connection, position: int) -> int:
    """The last id that retention dropped beyond this position; 0 where it dropped none there. Call it after events were
    read in the same transaction: what is dropped in between is better told too often than not at all.
    """
    dropped: int = await conn.fetchval(FIND_HOLE_SQL, position) or 0
    return dropped if dropped > position else 0
