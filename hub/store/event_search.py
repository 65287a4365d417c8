"""The event log as the operator looks through it: either way, by what happened and where (rule G4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hub.domain.events import Event
from hub.store.event_log import read_event
from hub.store.pool import Connection

REACH: Final = 5_000
"""Events that one look goes through at most, however few of them fit: so it costs the same in a long log."""

_COLUMNS: Final = """
id, shard, prev_id, type, created_at, channel_id, conversation_id, sequence, reply_window_expires_at,
author_service_id, audience, data, written_at, picked_up_by"""
_FITS: Final = """
($3::text is null or e.type = $3) and ($4::text is null or e.number_id = (select n.id from number n where n.e164 = $4))
and ($5::uuid is null or e.conversation_id = $5)"""
LIST_ON_SQL = f"""
select {_COLUMNS} from (select * from event where id > $1 order by id limit $2) e
where {_FITS} order by id limit $6"""
LIST_BACK_SQL = f"""
select {_COLUMNS} from (select * from event where id < $1 order by id desc limit $2) e
where {_FITS} order by id desc limit $6"""
FIND_ON_END_SQL = "select id from event where id > $1 order by id offset $2 limit 1"
FIND_BACK_END_SQL = "select id from event where id < $1 order by id desc offset $2 limit 1"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What events must fit; None: any."""

    type: str | None = None
    e164: str | None = None
    conversation_id: UUID | None = None


async def search(
    conn: Connection, place: int, wanted: EventFilter, limit: int, *, is_back: bool, reach: int = REACH
) -> tuple[Sequence[Event], int | None]:
    """Events of all shards behind this id, or (`is_back`) before it, newest first, that fit; and where the next page
    begins. A page may be short and yet have a next one. Near the end of the log, ids may still appear below.
    """
    sql, end_sql = (LIST_BACK_SQL, FIND_BACK_END_SQL) if is_back else (LIST_ON_SQL, FIND_ON_END_SQL)
    rows = await conn.fetch(sql, place, reach, wanted.type, wanted.e164, wanted.conversation_id, limit)
    if len(rows) == limit:
        return [read_event(row) for row in rows], rows[-1]["id"]
    end: int | None = await conn.fetchval(end_sql, place, reach - 1)
    return [read_event(row) for row in rows], end
