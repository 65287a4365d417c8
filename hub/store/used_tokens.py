"""What is good once: handles, one-time keys and nonces that were used, by their hashes."""

from datetime import datetime

from hub.store.pool import Connection

USE_SQL = "insert into used_token (hash, expires_at) values ($1, $2) on conflict do nothing"


async def use(conn: Connection, token_hash: bytes, expires_at: datetime) -> bool:
    """Mark it as used, to be forgotten when it could not be used any more anyway; False: it was used before."""
    status: str = await conn.execute(USE_SQL, token_hash, expires_at)
    return status.endswith(" 1")
