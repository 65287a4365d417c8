"""What a service's agents wrote lately, counted under a lock of the service's own (rule E3)."""

from datetime import datetime
from typing import Final
from uuid import UUID

from hub.store.pool import Connection

_CLASS: Final = 7007

LOCK_SQL = "select pg_advisory_xact_lock($1, hashtext($2::uuid::text))"


async def lock(conn: Connection, service_id: UUID) -> None:
    """Let what a service sends be counted one after the other; after the channel, before contacts and conversations."""
    await conn.execute(LOCK_SQL, _CLASS, service_id)


NTH_OF_AGENT_SQL = """
select created_at from message
where author_service_id = $1 and origin = 'agent' and agent_id = $2 and created_at > $3
order by created_at desc offset $4 limit 1"""
NTH_OF_SERVICE_SQL = """
select created_at from message where author_service_id = $1 and origin = 'agent' and created_at > $2
order by created_at desc offset $3 limit 1"""
NTH_OPENED_SQL = """
select created_at from conversation where opened_by = $1 and created_at > $2
order by created_at desc offset $3 limit 1"""


async def find_nth_of_agent(
    conn: Connection, service_id: UUID, agent_id: str, since: datetime, nth: int
) -> datetime | None:
    """When this agent's nth latest message was accepted; None: there are fewer since then."""
    at: datetime | None = await conn.fetchval(NTH_OF_AGENT_SQL, service_id, agent_id, since, nth - 1)
    return at


async def find_nth_of_service(conn: Connection, service_id: UUID, since: datetime, nth: int) -> datetime | None:
    """The same for all agents of a service."""
    at: datetime | None = await conn.fetchval(NTH_OF_SERVICE_SQL, service_id, since, nth - 1)
    return at


async def find_nth_opened(conn: Connection, service_id: UUID, since: datetime, nth: int) -> datetime | None:
    """When the nth latest of the conversations was made that a service has begun."""
    at: datetime | None = await conn.fetchval(NTH_OPENED_SQL, service_id, since, nth - 1)
    return at


# Made by this very transaction: nobody has numbered anything in it yet.
SET_OPENED_SQL = """
update conversation set opened_by = $2 where id = $1 and last_sequence = 0 and created_at = now() and opened_by is null
returning true"""


async def set_opened(conn: Connection, conversation_id: UUID, service_id: UUID) -> bool:
    """Note who began a conversation that this transaction has made; False where it existed."""
    return bool(await conn.fetchval(SET_OPENED_SQL, conversation_id, service_id))
