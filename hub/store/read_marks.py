"""What of a conversation can be marked as read (rule E10)."""

from uuid import UUID

from hub.store.pool import Connection, Record

FIND_LATEST_SQL = """
select id, provider_id from message
where conversation_id = $1 and direction = 'inbound' and origin = 'customer' and provider = $2
  and provider_id is not null
order by sequence desc limit 1"""


async def find_latest(conn: Connection, conversation_id: UUID, provider: str) -> Record | None:
    """The customer's latest message that came through this provider."""
    return await conn.fetchrow(FIND_LATEST_SQL, conversation_id, provider)
