"""Messages whose time has not come (rule E11), or whose conversation Meta's own agent holds."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from hub.store.pool import Connection, Record

ADD_SQL = "insert into schedule (message_id, sender_id, conversation_id, priority, due_at) values ($1, $2, $3, $4, $5)"


async def add(
    conn: Connection, message_id: UUID, sender_id: int, conversation_id: UUID, priority: int, due_at: datetime
) -> None:
    """Keep a message until its time has come."""
    await conn.execute(ADD_SQL, message_id, sender_id, conversation_id, priority, due_at)


# Behind all that was accepted in the conversation so far, and before what will be: that has the same number or a higher
# one, and among equals the older message goes first. Two that come due together go in the order of acceptance.
QUEUE_DUE_SQL = """
with due as (
    delete from schedule where message_id in (
        select message_id from schedule where due_at <= now()
        order by due_at, message_id limit $1 for update skip locked)
    returning message_id, sender_id, conversation_id, priority
)
insert into outbox (message_id, sender_id, conversation_id, sequence, priority)
select d.message_id, d.sender_id, d.conversation_id, c.last_sequence + 1, d.priority
from due d join conversation c on c.id = d.conversation_id"""


async def queue_due(conn: Connection, limit: int = 1000) -> None:
    """Move messages whose time has come into the outbox."""
    await conn.execute(QUEUE_DUE_SQL, limit)


HOLD_SQL = """
insert into schedule (message_id, sender_id, conversation_id, priority, due_at) values ($1, $2, $3, $4, 'infinity')"""
# Each in its own place in the order of acceptance: what is accepted from now on comes behind it.
RELEASE_SQL = """
with given as (
    delete from schedule where due_at = 'infinity' and conversation_id = any($1::uuid[])
    returning message_id, sender_id, conversation_id, priority
)
insert into outbox (message_id, sender_id, conversation_id, sequence, priority)
select g.message_id, g.sender_id, g.conversation_id, m.sequence, g.priority
from given g join message m on m.id = g.message_id"""


async def hold(conn: Connection, message_id: UUID, sender_id: int, conversation_id: UUID, priority: int) -> None:
    """Keep a message until its conversation, which is locked, is given back to us."""
    await conn.execute(HOLD_SQL, message_id, sender_id, conversation_id, priority)


async def release(conn: Connection, conversation_ids: Collection[UUID]) -> None:
    """Move what waited for these conversations, which are locked, into the outbox."""
    await conn.execute(RELEASE_SQL, list(conversation_ids))


TAKE_SQL = "delete from schedule where message_id = $1 returning true"


async def take(conn: Connection, message_id: UUID) -> bool:
    """Take one message out. Waits for whoever is moving it into the outbox just now: then it is no longer here."""
    return bool(await conn.fetchval(TAKE_SQL, message_id))


TAKE_AUTOMATION_SQL = """
delete from schedule using message m
where m.id = schedule.message_id and m.channel_id = $1 and m.author_service_id = $2
returning m.id, m.conversation_id"""


async def take_automation(conn: Connection, channel_id: UUID, service_id: UUID) -> list[Record]:
    """Take all that a service has scheduled on a channel out (A5). To be followed by the outbox's of the same name:
    what is being moved just now is there afterwards.
    """
    return await conn.fetch(TAKE_AUTOMATION_SQL, channel_id, service_id)
