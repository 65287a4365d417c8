"""What a check of an installation asks the database: its clock, what waits for somebody, whether keys still fit."""

from datetime import datetime
from typing import Final

from hub.store.pool import Connection

MOST: Final = 1000
"""What is counted, at most."""
SEALED: Final = 20
"""How many sealed secrets are tried: the latest, and so those of every key that was ever used lately."""

FIND_NOW_SQL = "select clock_timestamp()"
COUNT_DEAD_SQL = f"select count(*) from (select from dead_letter limit {MOST}) d"
LIST_SEALED_SQL = """
select x.secret from subscription_secret x join subscription u on u.id = x.subscription_id
where u.disconnected_at is null and (x.expires_at is null or x.expires_at > now()) order by x.id desc limit $1"""


async def find_now(conn: Connection) -> datetime:
    """The database's time."""
    now: datetime = await conn.fetchval(FIND_NOW_SQL)
    return now


async def count_dead(conn: Connection) -> int:
    """Events that were given up, at most so many counted."""
    return int(await conn.fetchval(COUNT_DEAD_SQL))


async def list_sealed(conn: Connection) -> list[bytes]:
    """Signing secrets in use, as they are kept."""
    return [bytes(row["secret"]) for row in await conn.fetch(LIST_SEALED_SQL, SEALED)]
