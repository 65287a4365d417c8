"""How far providers' lists have been compared with what came by webhook (rule B3)."""

from collections.abc import Collection
from datetime import datetime

from hub.store.pool import Connection, Record

BEGIN_SQL = """
insert into reconciliation (provider, begun_at, until) select p, $2, $2 from unnest($1::text[]) as p
on conflict (provider) do nothing"""
LIST_SQL = """
select provider, begun_at, until, tried_at, outcome, detail, listed, taken from reconciliation order by provider"""
# What a slower process compared before does not bring the mark back.
RECORD_SQL = """
update reconciliation set until = greatest(until, $2), tried_at = $3, outcome = $4, detail = $5, listed = $6, taken = $7
where provider = $1"""
FIND_KNOWN_SQL = """
select key from inbound_key where key = any($1::bytea[])
union all
select item_key from quarantine where item_key = any($1::bytea[])"""


async def begin(conn: Connection, providers: Collection[str], now: datetime) -> None:
    """Compare these providers' lists from now on, unless they are already."""
    await conn.execute(BEGIN_SQL, list(providers), now)


async def list_marks(conn: Connection) -> list[Record]:
    """How far each provider's list was compared, and how the last round went."""
    return await conn.fetch(LIST_SQL)


async def record(
    conn: Connection, provider: str, now: datetime, outcome: str, *, until: datetime | None = None,
    detail: str | None = None, listed: int | None = None, taken: int | None = None,
) -> None:  # fmt: skip
    """Note how a round went; `until` where all up to then is compared."""
    await conn.execute(RECORD_SQL, provider, until, now, outcome, detail, listed, taken)


async def find_known(conn: Connection, keys: Collection[bytes]) -> set[bytes]:
    """Which of these items were taken in already, or quarantined."""
    return {row["key"] for row in await conn.fetch(FIND_KNOWN_SQL, list(keys))} if keys else set()
