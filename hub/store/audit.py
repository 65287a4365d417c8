"""Who did what (rule A8)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from hub.store.audit_search import REACH, AuditFilter
from hub.store.pool import Connection, Record

ADD_AUDIT_SQL = """
insert into audit (actor, action, number_id, channel_id, subject, details) values ($1, $2, $3, $4, $5, $6)"""


async def add_audit(
    conn: Connection, actor: str, action: str, *, number_id: int | None = None, channel_id: UUID | None = None,
    subject: str | None = None, details: str = "{}",
) -> None:  # fmt: skip
    """Write down who did what (A8)."""
    await conn.execute(ADD_AUDIT_SQL, actor, action, number_id, channel_id, subject, details)


LIST_AUDIT_SQL = """
select * from (select * from audit where id > $1 order by id limit $2) a
where ($3::text is null or a.actor = $3)
  and ($4::text is null or a.action = $4 or starts_with(a.action, $4 || '.'))
  and ($5::text is null or a.subject = $5)
  and ($6::text is null or a.actor = $6 or a.subject = $6 or strpos(a.details, '"' || $6 || '"') > 0)
order by a.id limit $7"""
FIND_NEXT_SQL = "select id from audit where id > $1 order by id offset $2 limit 1"


async def list_audit(
    conn: Connection, after: int, limit: int, wanted: AuditFilter, *, reach: int = REACH
) -> tuple[Sequence[Record], int | None]:
    """The audit trail by age, what fits, and after which id the next page begins; a page may be short and yet have a
    next one, where more than `reach` rows were to be looked at. `audit_search.search` is the same, newest first.
    """
    rows = await conn.fetch(
        LIST_AUDIT_SQL, after, reach, wanted.actor, wanted.action, wanted.subject, wanted.mention, limit
    )
    if len(rows) == limit:
        return rows, rows[-1]["id"]
    end: int | None = await conn.fetchval(FIND_NEXT_SQL, after, reach - 1)
    return rows, end


# Ids grow with time, so the trail is halved by its key until the place is found.
FIND_PLACE_SQL = """
with recursive step (low, high) as (
    select 1::bigint, coalesce((select id from audit order by id desc limit 1), 0) + 1
    union all
    select case when r.at < $1 then r.id + 1 else s.low end,
           case when r.at < $1 then s.high else (s.low + s.high) / 2 end
    from step s
    cross join lateral (select a.id, a.at from audit a where a.id >= (s.low + s.high) / 2 order by a.id limit 1) r
    where s.low < s.high
)
select low from step where low >= high limit 1"""


async def find_place(conn: Connection, moment: datetime) -> int:
    """Below which id what was written down before that time stands; to a transaction's length, for those overlap."""
    found: int = await conn.fetchval(FIND_PLACE_SQL, moment)
    return found
