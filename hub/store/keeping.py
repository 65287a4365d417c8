"""Bytes and rows kept in step: a row that says a file is kept never names bytes that are not there.

Bytes are put first, then the row is committed; a row is ended first, then its bytes are removed if no other row has
them. Both hold the hash's advisory lock (7013) while they look and act, so that neither comes in between.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import structlog

from hub.domain.errors import Unavailable
from hub.store.files import Files, Incoming, Kept
from hub.store.pool import Connection, Database

log = structlog.get_logger()

LOCK_HASH_SQL = "select pg_advisory_xact_lock(7013, $1)"
IS_KEPT_SQL = "select exists (select from media where sha256 = $1 and state = 'kept')"
LIST_KEPT_SQL = "select distinct sha256 from media where sha256 = any($1::bytea[]) and state = 'kept'"


@asynccontextmanager
async def keeping(database: Database, files: Files, incoming: Incoming) -> AsyncIterator[tuple[Connection, Kept]]:
    """A transaction in which the row of a file is to be written, whose bytes are there for certain. Raises OSError,
    `Unavailable`: also where the same bytes were removed just now.
    """
    kept = await incoming.keep()
    async with database.transaction() as conn:
        await _lock(conn, kept.sha256)
        if not await files.blobs.exists(kept.sha256):
            raise Unavailable("the same file was removed at this very moment: send it again")
        yield conn, kept


async def remove_unnamed(database: Database, files: Files, hashes: Collection[bytes]) -> int:
    """Remove the bytes that no kept file has, each in a transaction of its own; gives how many. What cannot be removed
    now is left to the janitor.
    """
    removed = 0
    for sha256 in hashes:
        try:
            async with database.transaction() as conn:
                await _lock(conn, sha256)
                if not await conn.fetchval(IS_KEPT_SQL, sha256):
                    await files.blobs.delete(sha256)
                    removed += 1
        except (Unavailable, OSError) as error:
            log.warning("media.not_removed", error=type(error).__name__)
    return removed


async def sweep(database: Database, files: Files, folder: int, age: float) -> int:
    """Remove what lies in one of the folders for more than `age` seconds and has no row: whoever put it was cut off.
    Raises OSError, `Unavailable`.
    """
    found = await files.blobs.list_old(folder, age)
    if not found:
        return 0
    async with database.reading() as conn:
        named = {row["sha256"] for row in await conn.fetch(LIST_KEPT_SQL, list(found))}
    return await remove_unnamed(database, files, [sha256 for sha256 in found if sha256 not in named])


async def _lock(conn: Connection, sha256: bytes) -> None:
    await conn.execute(LOCK_HASH_SQL, int.from_bytes(sha256[:4], signed=True))
