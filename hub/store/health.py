"""Whether the database is fit to work with."""

from hub.store.migrate import MigrationError, list_missing
from hub.store.pool import Connection


async def is_migrated(conn: Connection) -> bool:
    """Whether every migration of this version has run."""
    try:
        return not await list_missing(conn)
    except MigrationError:
        return False
