"""Which process does what only one may do: held for as long as a connection lives."""

from typing import Final

from hub.store.pool import Connection, translated

DISPATCHER: Final = 1
SENDER: Final = 2
JANITOR: Final = 3
_CLASS: Final = 7003

OWN_SQL = "select pg_advisory_lock($1, $2)"
CONFIRM_SQL = "select 1"


async def own(conn: Connection, role: int) -> None:
    """Wait until this connection owns the role. The server gives it up with the connection."""
    async with translated():
        await conn.execute(OWN_SQL, _CLASS, role, timeout=float(2**31))


async def confirm(conn: Connection) -> None:
    """Raises `Unavailable` where the connection, and with it the ownership, is gone."""
    async with translated():
        await conn.execute(CONFIRM_SQL)
