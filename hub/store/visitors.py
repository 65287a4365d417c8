"""Visitors: cookies of browsers, and which of them are one browser."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from hub.store.pool import Connection

_FRESH: Final = timedelta(hours=1)
"""A visitor seen within it is not written anew."""
_MOST_TWINS: Final = 4
"""Other visitors that one receipt joins a visitor with."""
_MOST_OF_BROWSER: Final = 50
"""Visitors that count as one browser, besides the first: each is locked."""

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


# In one order, lest two transactions wait for each other's. One of more visitors than there may be is somebody's game.
ADD_TWINS_SQL = """
with other as (
    select distinct unnest(o.ids) as id
    from page_receipt mine
    cross join lateral (
        select array_agg(visitor_id) as ids from (
            select visitor_id from page_receipt p
            where p.receipt_hash = mine.receipt_hash and p.visitor_id <> $1 and not p.is_key limit $3 + 1) p
    ) o
    where mine.receipt_hash = any($2::bytea[]) and mine.visitor_id = $1 and not mine.is_key
      and cardinality(o.ids) <= $3
)
insert into visitor_twin (visitor_id, twin_id)
select $1, id from other union all select id, $1 from other order by 1, 2
on conflict do nothing"""


async def add_twins(conn: Connection, visitor_id: UUID, receipt_hashes: Collection[bytes]) -> None:
    """A visitor is one browser with those that showed the same receipts before: tabs that were opened together."""
    await conn.execute(ADD_TWINS_SQL, visitor_id, list(receipt_hashes), _MOST_TWINS)


BROWSER_SQL = """
with recursive browser as (
    select id from unnest($1::uuid[]) as given (id)
    union
    select t.twin_id from browser b join visitor_twin t on t.visitor_id = b.id)
select id from browser limit cardinality($1) + $2"""


async def list_browser(conn: Connection, visitor_ids: Collection[UUID]) -> set[UUID]:
    """These visitors, and those that are known to be the same browsers: the nearest, where somebody made up more of
    them than a browser can have.
    """
    rows = await conn.fetch(BROWSER_SQL, list(visitor_ids), _MOST_OF_BROWSER)
    return {row["id"] for row in rows}
