"""Which process does what only one may do: roles held for as long as a connection lives, and leased shards."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import asyncpg

from hub.store.pool import Connection, translated

SENDER: Final = 2
JANITOR: Final = 3
TELLER: Final = 4
HEALTH: Final = 5
RECONCILER: Final = 6
CLASS: Final = 7003

OWN_SQL = "select pg_advisory_lock($1, $2)"
LIMIT_SILENCE_SQL = """
select set_config('idle_session_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $1, false)"""
CONFIRM_SQL = "select 1"


async def own(conn: Connection, role: int) -> None:
    """Wait until this connection owns the role. The server gives it up with the connection."""
    async with translated():
        await conn.execute(OWN_SQL, CLASS, role, timeout=float(2**31))


async def limit_silence(conn: Connection, seconds: float) -> None:
    """Have the server end this connection, and with it the ownership, once it has said nothing for so long: a process
    that stands still keeps its connection open all the same.
    """
    async with translated():
        await conn.execute(LIMIT_SILENCE_SQL, f"{round(seconds * 1000)}ms")


async def confirm(conn: Connection) -> None:
    """Raises `Unavailable` where the connection, and with it the ownership, is gone."""
    async with translated():
        await conn.execute(CONFIRM_SQL)


class GivenUp(Exception):
    """Others took this dispatcher for dead and have its shards."""


@dataclass(frozen=True, slots=True)
class Holding:
    """The shards a dispatcher holds, each with its epoch, and how many are its fair share."""

    epochs: dict[int, int]
    fair_share: int


JOIN_SQL = "select join_dispatchers($1)"


async def join(conn: Connection, lease: float) -> int:
    """Become a dispatcher, alive for `lease` seconds and as long as this connection lives; gives its number."""
    number: int = await conn.fetchval(JOIN_SQL, timedelta(seconds=lease))
    return number


KEEP_SQL = "select shard, epoch, fair_share from keep_shards($1, $2)"


async def keep(conn: Connection, dispatcher: int, lease: float) -> Holding:
    """Renew the lease, and take shards that are free up to a fair share. Raises `GivenUp`."""
    try:
        rows = await conn.fetch(KEEP_SQL, dispatcher, timedelta(seconds=lease))
    except asyncpg.PostgresError as error:
        if error.sqlstate == "PL002":
            raise GivenUp from None
        raise
    return Holding({row["shard"]: row["epoch"] for row in rows}, rows[0]["fair_share"] if rows else 64)


RELEASE_SQL = "select release_shards($1, $2::smallint[])"


async def release(conn: Connection, dispatcher: int, shards: list[int]) -> None:
    """Let others have these shards."""
    await conn.execute(RELEASE_SQL, dispatcher, shards)


LEAVE_SQL = "select leave_dispatchers($1)"


async def leave(conn: Connection, dispatcher: int) -> None:
    """Be no dispatcher any more, and let others have all of its shards."""
    await conn.execute(LEAVE_SQL, dispatcher)
