"""Numbered, forward-only migrations, each run once, under a lock, and recognised by its checksum afterwards.

Old processes go on meanwhile, so nobody is kept waiting for long: what has to read a large table is an index that is
built ahead, `create index if not exists` in its migration's text; and the rest gives way to whoever holds a table.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Final

import asyncpg

from hub.store.pool import Connection

_LOCK: Final = 7000
_LOOKS: Final = 0.1
"""Seconds between tries to get it: who waits for it in a statement holds up indexes that are built ahead."""
_LONGEST: Final = 24 * 3600.0
"""Seconds that a statement may take: reading a large table takes its time."""
_LOCK_TIMEOUT: Final = "3s"
"""How long a table is waited for: whoever wants it after us waits as long, and loops give up after five seconds."""
_AHEAD: Final = re.compile(r"^create (?:unique )?index if not exists (\w+) on (\w+) [^;]*;$", re.MULTILINE)


class MigrationError(Exception):
    """The database's schema and this version's migrations do not fit. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of the migrations folder: `NNNN_name.sql`."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, so that a file changed after it ran is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped() -> list[Migration]:
    """The migrations of this version, in order."""
    folder = resources.files("hub.store") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(f.name[:4]), f.name.removesuffix(".sql"), f.read_text()) for f in files]


CREATE_TABLE_SQL = """
create table if not exists schema_migration (
    version integer primary key, name text not null, checksum text not null,
    applied_at timestamptz not null default now()
)"""
ADD_MIGRATION_SQL = "insert into schema_migration (version, name, checksum) values ($1, $2, $3)"
LIMIT_WAITING_SQL = "select set_config('lock_timeout', $1, true)"


async def migrate(conn: Connection) -> list[str]:
    """Bring the schema up to date, all but indexes built ahead in one transaction; gives the names that ran. Raises
    `MigrationError`.
    """
    async with _alone(conn):
        for migration in await list_missing(conn):
            await _build_ahead(conn, migration)
        try:
            async with conn.transaction():
                await conn.fetchval(LIMIT_WAITING_SQL, _LOCK_TIMEOUT)
                return await _run(conn)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            text = "somebody holds a table for long, as a backup does; nothing was changed: run it again"
            raise MigrationError("migration_waited", text) from error


async def _run(conn: Connection) -> list[str]:
    await conn.execute(CREATE_TABLE_SQL)
    missing = await list_missing(conn)
    for migration in missing:
        await conn.execute(migration.sql, timeout=_LONGEST)
        await conn.execute(ADD_MIGRATION_SQL, migration.version, migration.name, migration.checksum)
    return [migration.name for migration in missing]


LOCK_SQL = "select pg_try_advisory_lock($1, 0)"
UNLOCK_SQL = "select pg_advisory_unlock($1, 0)"


@asynccontextmanager
async def _alone(conn: Connection) -> AsyncIterator[None]:
    """Nobody else migrates in this block."""
    while not await conn.fetchval(LOCK_SQL, _LOCK):  # noqa: ASYNC110  in the database, where others hold it
        await asyncio.sleep(_LOOKS)
    try:
        yield
    finally:
        if not conn.is_closed():
            await conn.fetchval(UNLOCK_SQL, _LOCK)


FIND_RELATION_SQL = """
select to_regclass($1) is not null as is_there, coalesce((
    select i.indisvalid from pg_index i where i.indexrelid = to_regclass($2)), true) as is_sound"""


async def _build_ahead(conn: Connection, migration: Migration) -> None:
    """Build its indexes on a table that is there, while others write to it. One that was cut short is built anew."""
    for index in _AHEAD.finditer(migration.sql):
        name, table = index.groups()
        row = await conn.fetchrow(FIND_RELATION_SQL, table, name)
        assert row is not None
        if not row["is_sound"]:
            await conn.execute(f"drop index concurrently {name}", timeout=_LONGEST)
        if row["is_there"]:
            statement = index.group().replace(" index ", " index concurrently ", 1)
            await conn.execute(statement, timeout=_LONGEST)


FIND_TABLE_SQL = "select to_regclass('schema_migration') is not null"
LIST_APPLIED_SQL = "select version, name, checksum from schema_migration order by version"


async def list_missing(conn: Connection) -> list[Migration]:
    """Migrations that this database has not run. Raises `MigrationError` where one that ran is not the one we ship.

    Versions the database has and we do not know are a newer hub's: expand/contract keeps them readable for us.
    """
    rows = await conn.fetch(LIST_APPLIED_SQL) if await conn.fetchval(FIND_TABLE_SQL) else []
    applied = {row["version"]: row for row in rows}
    for migration in shipped():
        row = applied.get(migration.version)
        if row and row["checksum"] != migration.checksum:
            raise MigrationError(
                "migration_changed", f"{row['name']} ran here with another text than this version ships"
            )
    return [migration for migration in shipped() if migration.version not in applied]
