"""The quarantine as people look at it: how much of what, newest first, without the bytes (rule B5)."""

from collections.abc import Sequence
from typing import Final

from hub.store.pool import Connection, Record

REACH: Final = 10_000
"""Entries that are counted, or looked at for one page, at most."""

COUNT_REASONS_SQL = """
select reason, count(*) as entries, min(received_at) as first_at, max(last_received_at) as last_at
from (select reason, received_at, last_received_at from quarantine where state = 'open' order by id desc limit $1) q
group by reason order by count(*) desc, reason"""
# The first is found by the index of open entries, which says so only where the state is written out.
LIST_OPEN_SQL = """
select id, provider, path, content_type, reason, detail, octet_length(raw) as size, state, times, received_at,
       last_received_at, replayed_at
from (select * from quarantine where state = 'open' and id < $1 order by id desc limit $2) q
where $3::text is null or reason = $3 order by id desc limit $4"""
LIST_ALL_SQL = """
select id, provider, path, content_type, reason, detail, octet_length(raw) as size, state, times, received_at,
       last_received_at, replayed_at
from (select * from quarantine where id < $1 order by id desc limit $2) q
where ($3::text is null or reason = $3) and ($5::text is null or state = $5) order by id desc limit $4"""
FIND_OPEN_END_SQL = "select id from quarantine where state = 'open' and id < $1 order by id desc offset $2 limit 1"
FIND_END_SQL = "select id from quarantine where id < $1 order by id desc offset $2 limit 1"


async def count_reasons(conn: Connection) -> list[Record]:
    """Open entries by reason, the most frequent first, of the last `REACH`."""
    return await conn.fetch(COUNT_REASONS_SQL, REACH)


async def list_newest(
    conn: Connection, before: int, limit: int, state: str | None, reason: str | None
) -> tuple[Sequence[Record], int | None]:
    """Entries below this id, newest first, and below which id the next page begins; a page may be short and yet have a
    next one.
    """
    if state == "open":
        rows = await conn.fetch(LIST_OPEN_SQL, before, REACH, reason, limit)
    else:
        rows = await conn.fetch(LIST_ALL_SQL, before, REACH, reason, limit, state)
    if len(rows) == limit:
        return rows, rows[-1]["id"]
    end_sql = FIND_OPEN_END_SQL if state == "open" else FIND_END_SQL
    end: int | None = await conn.fetchval(end_sql, before, REACH - 1)
    return rows, end
