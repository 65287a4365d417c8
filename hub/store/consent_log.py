"""The ledger of consent as it was written, newest first: who said what lately (rule E5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hub.store.pool import Connection, Record

REACH: Final = 10_000
"""Entries that one look goes back at most, however few of them fit."""

LIST_LATEST_SQL = """
select e.id, e.medium, e.address_type, e.address_value, n.e164, e.kind, e.source, e.service_id,
       s.name as service_name, e.evidence, e.at
from (select * from consent_event where id < $1 order by id desc limit $2) e
left join number n on n.id = e.number_id
left join service s on s.id = e.service_id
where ($3::text is null or e.medium = $3) and ($4::text is null or e.kind = $4) and ($5::text is null or n.e164 = $5)
  and (e.op_id is null or not exists (select from identity_op o where o.id = e.op_id and o.undone_at is not null))
order by e.id desc limit $6"""
FIND_END_SQL = "select id from consent_event where id < $1 order by id desc offset $2 limit 1"


@dataclass(frozen=True, slots=True)
class ConsentFilter:
    """What entries must fit; None: any. Of one number: what was said of it, not of all."""

    medium: str | None = None
    kind: str | None = None
    e164: str | None = None


async def list_latest(
    conn: Connection, before: int, wanted: ConsentFilter, limit: int, *, reach: int = REACH
) -> tuple[Sequence[Record], int | None]:
    """Entries below this id that fit, but for what came with an operation that was undone, and below which id the next
    page begins; a page may be short and yet have a next one. Of erased customers there is no address any more.
    """
    rows = await conn.fetch(LIST_LATEST_SQL, before, reach, wanted.medium, wanted.kind, wanted.e164, limit)
    if len(rows) == limit:
        return rows, rows[-1]["id"]
    end: int | None = await conn.fetchval(FIND_END_SQL, before, reach - 1)
    return rows, end
