"""How much waits: for the providers, and for somebody to look at it. Counted once a minute, for metrics."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hub.store.pool import Connection

FIND_BACKLOG_SQL = """
select (select count(*) from (select from outbox limit 100000) o) as waiting,
       (select m.created_at from outbox o join message m on m.id = o.message_id
        order by o.message_id limit 1) as oldest,
       (select count(*) from (select from dead_letter limit 1000) d) as dead"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Messages in the queue (100,000: or more), the age of the oldest, dead letters (1,000: or more)."""

    waiting: int
    oldest: timedelta
    dead: int


async def find_backlog(conn: Connection) -> Backlog:
    """Count what waits."""
    row = await conn.fetchrow(FIND_BACKLOG_SQL)
    assert row is not None
    age = datetime.now(UTC) - row["oldest"] if row["oldest"] else timedelta()
    return Backlog(row["waiting"], age, row["dead"])
