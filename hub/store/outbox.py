"""What waits to be handed to a provider (rules E8, E9), and the answers kept for repeated requests (E6)."""

from uuid import UUID

from hub.store.pool import Connection, Record

ADD_SQL = """
insert into outbox (message_id, sender_id, conversation_id, sequence, priority) values ($1, $2, $3, $4, $5)"""


async def add(
    conn: Connection, message_id: UUID, sender_id: int, conversation_id: UUID, sequence: int, priority: int
) -> None:
    """Queue a message."""
    await conn.execute(ADD_SQL, message_id, sender_id, conversation_id, sequence, priority)


# Only the head of a conversation may go (E9). A waiting agent reply lends its priority to the head before it.
LIST_HEADS_SQL = """
select o.message_id, o.conversation_id, m.channel_id
from outbox o join message m on m.id = o.message_id
where o.claimed_by is null and o.held_until is null and o.not_before <= now()
  and not exists (select from outbox p where p.conversation_id = o.conversation_id and p.sequence < o.sequence)
order by (select min(priority) from outbox q where q.conversation_id = o.conversation_id), o.message_id
limit $1"""


async def list_heads(conn: Connection, limit: int) -> list[Record]:
    """Messages that may be sent now, the most urgent first."""
    return await conn.fetch(LIST_HEADS_SQL, limit)


CLAIM_SQL = """
update outbox set claimed_by = $2, claimed_at = now(), attempts = attempts + 1
where message_id = $1 and claimed_by is null and held_until is null
returning sender_id, attempts"""


async def claim(conn: Connection, message_id: UUID, owner: UUID) -> Record | None:
    """Take a message for sending; None where it is gone or somebody else's."""
    return await conn.fetchrow(CLAIM_SQL, message_id, owner)


FINISH_SQL = "delete from outbox where message_id = $1"
POSTPONE_SQL = """
update outbox set claimed_by = null, claimed_at = null, not_before = now() + make_interval(secs => $2)
where message_id = $1"""
HOLD_SQL = """
update outbox set held_until = now() + make_interval(secs => $2), claimed_by = null, claimed_at = null
where message_id = $1"""
RELEASE_SQL = """
delete from outbox using message m
where m.id = outbox.message_id and held_until is not null and (held_until < now() or m.status <> 'unknown')"""
LIST_ABANDONED_SQL = """
select o.message_id, o.conversation_id from outbox o where o.claimed_by is not null and o.claimed_by <> $1"""


LIST_CLAIMED_SQL = "select message_id, conversation_id from outbox where claimed_by = $1"


async def list_claimed(conn: Connection, owner: UUID) -> list[Record]:
    """Messages that this sender has claimed."""
    return await conn.fetch(LIST_CLAIMED_SQL, owner)


IS_CLAIMED_SQL = "select exists (select from outbox where message_id = $1 and claimed_by = $2)"


async def is_claimed(conn: Connection, message_id: UUID, owner: UUID) -> bool:
    """Whether this sender still has that message."""
    claimed: bool = await conn.fetchval(IS_CLAIMED_SQL, message_id, owner)
    return claimed


async def finish(conn: Connection, message_id: UUID) -> None:
    """Its outcome is recorded."""
    await conn.execute(FINISH_SQL, message_id)


async def postpone(conn: Connection, message_id: UUID, seconds: float) -> None:
    """It was certainly not taken: try again later."""
    await conn.execute(POSTPONE_SQL, message_id, seconds)


async def hold(conn: Connection, message_id: UUID, seconds: float) -> None:
    """Its outcome is unknown: nothing of its conversation is sent for so long (E8)."""
    await conn.execute(HOLD_SQL, message_id, seconds)


async def release_held(conn: Connection) -> None:
    """Let conversations go on whose unknown was settled, or has held them long enough."""
    await conn.execute(RELEASE_SQL)


async def list_abandoned(conn: Connection, owner: UUID) -> list[Record]:
    """Messages claimed by a sender that is no more."""
    return await conn.fetch(LIST_ABANDONED_SQL, owner)


# Only what no sender has claimed: a claimed message may be with the provider already.
TAKE_AUTOMATION_SQL = """
delete from outbox using message m
where m.id = outbox.message_id and m.channel_id = $1 and m.author_service_id = $2 and m.origin <> 'agent'
  and outbox.claimed_by is null and outbox.held_until is null
returning m.id, m.conversation_id"""
LIST_AUTOMATION_SQL = """
select distinct m.conversation_id from outbox o join message m on m.id = o.message_id
where m.channel_id = $1 and m.author_service_id = $2 and m.origin <> 'agent'"""


async def list_automation_conversations(conn: Connection, channel_id: UUID, service_id: UUID) -> list[UUID]:
    """Conversations in which a service has automation waiting."""
    rows = await conn.fetch(LIST_AUTOMATION_SQL, channel_id, service_id)
    return [row["conversation_id"] for row in rows]


async def take_automation(conn: Connection, channel_id: UUID, service_id: UUID) -> list[Record]:
    """Take a service's waiting automation out of the queue (A5)."""
    return await conn.fetch(TAKE_AUTOMATION_SQL, channel_id, service_id)


FORGET_KEY_SQL = """
delete from idempotency_key
where service_id = $1 and route = $2 and key = $3 and created_at < now() - interval '24 hours'"""
ADD_KEY_SQL = """
insert into idempotency_key (service_id, route, key, body_hash) values ($1, $2, $3, $4)
on conflict (service_id, route, key) do nothing returning true"""
FIND_KEY_SQL = """
select body_hash, status, answer from idempotency_key where service_id = $1 and route = $2 and key = $3"""
SET_ANSWER_SQL = """
update idempotency_key set status = $4, answer = $5 where service_id = $1 and route = $2 and key = $3"""
PRUNE_ANSWERS_SQL = "delete from idempotency_key where created_at < now() - interval '24 hours'"


async def claim_key(conn: Connection, service_id: UUID, route: str, key: str, body_hash: bytes) -> Record | None:
    """Claim an Idempotency-Key. None: it is ours, go on. Else what a twin stored, after waiting for it (E6)."""
    await conn.execute(FORGET_KEY_SQL, service_id, route, key)
    if await conn.fetchval(ADD_KEY_SQL, service_id, route, key, body_hash):
        return None
    return await conn.fetchrow(FIND_KEY_SQL, service_id, route, key)


async def set_answer(conn: Connection, service_id: UUID, route: str, key: str, status: int, answer: str) -> None:
    """Keep the answer for repetitions of the request."""
    await conn.execute(SET_ANSWER_SQL, service_id, route, key, status, answer)


async def prune_answers(conn: Connection) -> None:
    """Forget answers older than 24 hours."""
    await conn.execute(PRUNE_ANSWERS_SQL)
