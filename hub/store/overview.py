"""Conversations of all channels, for the operator to look at (rule C2)."""

from uuid import UUID

from hub.store.pool import Connection, Record

FIND_CONVERSATION_SQL = """
select c.id, c.channel_id, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at, c.picked_up_by, c.held_by
from conversation c join number n on n.id = c.number_id where c.id = $1"""
LIST_CONVERSATIONS_SQL = """
select c.id, c.channel_id, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at, c.picked_up_by, c.held_by
from conversation c join number n on n.id = c.number_id where c.id > $1 order by c.id limit $2"""
# As services list theirs.
LIST_OF_NUMBER_SQL = """
select c.id, c.channel_id, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at, c.picked_up_by, c.held_by
from number n
join channel ch on ch.number_id = n.id
cross join lateral (
    select * from conversation r where (r.channel_id, r.id) > (ch.id, $1) and r.channel_id <= ch.id
    order by r.channel_id, r.id limit $2) c
where n.e164 = $3 order by c.id limit $2"""


async def find_conversation(conn: Connection, conversation_id: UUID) -> Record | None:
    """A conversation, whoever is connected to its channel; as `conversations.find_in_reach` has it."""
    return await conn.fetchrow(FIND_CONVERSATION_SQL, conversation_id)


async def list_conversations(conn: Connection, after: UUID, limit: int, e164: str | None) -> list[Record]:
    """Conversations by age, of one number or of all."""
    if e164 is None:
        return await conn.fetch(LIST_CONVERSATIONS_SQL, after, limit)
    return await conn.fetch(LIST_OF_NUMBER_SQL, after, limit, e164)
