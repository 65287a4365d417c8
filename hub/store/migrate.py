"""Numbered, forward-only migrations, each run once, under a lock, and recognised by its checksum afterwards."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from hub.store.pool import Connection

_LOCK: Final = 7000


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
LOCK_SQL = "select pg_advisory_xact_lock($1, 0)"
ADD_MIGRATION_SQL = "insert into schema_migration (version, name, checksum) values ($1, $2, $3)"


async def migrate(conn: Connection) -> list[str]:
    """Bring the schema up to date in one transaction; gives the names that ran. Raises `MigrationError`."""
    async with conn.transaction():
        await conn.execute(LOCK_SQL, _LOCK)
        await conn.execute(CREATE_TABLE_SQL)
        missing = await list_missing(conn)
        for migration in missing:
            await conn.execute(migration.sql)
            await conn.execute(ADD_MIGRATION_SQL, migration.version, migration.name, migration.checksum)
    return [migration.name for migration in missing]


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
