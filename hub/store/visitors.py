"""Visitors: cookies of browsers, and which of them are one browser."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from hub.store.pool import Connection

_FRESH: Final = timedelta(hours=1)
"""A visitor seen within it is not written anew."""

TOUCH_SQL = """
insert into visitor (id, created_at, seen_at, is_confirmed) values ($1, $2, $2, $3)
on conflict (id) do update
set seen_at = greatest(visitor.seen_at, excluded.seen_at),
    is_confirmed = visitor.is_confirmed or excluded.is_confirmed
where visitor.seen_at < $2 - $4::interval or (excluded.is_confirmed and not visitor.is_confirmed)"""


async def touch(conn: Connection, visitor_id: UUID, now: datetime, *, is_returning: bool) -> bool:
    """A visitor was seen; once its cookie has come back (`is_returning`) it is confirmed. False: nothing is new."""
    status: str = await conn.execute(TOUCH_SQL, visitor_id, now, is_returning, _FRESH)
    return status.endswith(" 1")


# In one order, lest two transactions wait for each other's.
ADD_TWINS_SQL = """
insert into visitor_twin (visitor_id, twin_id)
select distinct a.visitor_id, b.visitor_id
from page_receipt a join page_receipt b on b.receipt_hash = a.receipt_hash and b.visitor_id <> a.visitor_id
where a.receipt_hash = any($1::bytea[]) and not a.is_key and not b.is_key
order by 1, 2
on conflict do nothing"""


async def add_twins(conn: Connection, receipt_hashes: Collection[bytes]) -> None:
    """Visitors that showed one receipt are one browser."""
    await conn.execute(ADD_TWINS_SQL, list(receipt_hashes))


BROWSER_SQL = """
with recursive browser as (
    select id from unnest($1::uuid[]) as given (id)
    union
    select t.twin_id from browser b join visitor_twin t on t.visitor_id = b.id)
select id from browser"""


async def list_browser(conn: Connection, visitor_ids: Collection[UUID]) -> set[UUID]:
    """These visitors, and all that are known to be the same browsers."""
    return {row["id"] for row in await conn.fetch(BROWSER_SQL, list(visitor_ids))}
