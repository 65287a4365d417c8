"""The audit trail newest first, by who, what and about what (rule A8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hub.store.pool import Connection, Record

REACH: Final = 20_000
"""Rows that one look goes back at most, however few of them fit: so it costs the same in a long trail."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What rows must fit; None: any. `mention`: an id that acted, is the subject or stands in the details."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    mention: str | None = None

    @property
    def is_any(self) -> bool:
        """Whether every row fits."""
        return self == AuditFilter()


SEARCH_SQL = """
select * from (select * from audit where id < $1 order by id desc limit $2) a
where ($3::text is null or a.actor = $3)
  and ($4::text is null or a.action = $4 or starts_with(a.action, $4 || '.'))
  and ($5::text is null or a.subject = $5)
  and ($6::text is null or a.actor = $6 or a.subject = $6 or strpos(a.details, '"' || $6 || '"') > 0)
order by a.id desc limit $7"""
FIND_END_SQL = "select id from audit where id < $1 order by id desc offset $2 limit 1"


async def search(
    conn: Connection, before: int, wanted: AuditFilter, limit: int, *, reach: int = REACH
) -> tuple[Sequence[Record], int | None]:
    """Rows below this id that fit, and below which id the next page begins; a page may be short and yet have a next
    one, where more than `reach` rows were to be looked at.
    """
    rows = await conn.fetch(
        SEARCH_SQL, before, reach, wanted.actor, wanted.action, wanted.subject, wanted.mention, limit
    )
    if len(rows) == limit:
        return rows, rows[-1]["id"]
    end: int | None = await conn.fetchval(FIND_END_SQL, before, reach - 1)
    return rows, end
