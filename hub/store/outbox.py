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


# Only the head of a conversation may go (E9). A waiting agent reply lends its priority to the head before it: the queue
# is walked in the order of urgency, only as far as needed; at a conversation's most urgent message its head is taken.
# Conversations whose head may not go now are left out beforehand, or a throttled provider's would be walked each time.
LIST_HEADS_SQL = """
select h.message_id, h.conversation_id, (select m.channel_id from message m where m.id = h.message_id) as channel_id
from outbox o cross join lateral (
    select * from outbox p where p.conversation_id = o.conversation_id order by p.sequence limit 1) h
where o.conversation_id not in (
    select b.conversation_id from outbox b
    where (b.claimed_by is not null or b.held_until is not null or b.attempts > 0)
      and (b.claimed_by is not null or b.held_until is not null or b.not_before > now()))
  and o.message_id = (
    select q.message_id from outbox q where q.conversation_id = o.conversation_id
    order by q.priority, q.message_id limit 1)
  and h.claimed_by is null and h.held_until is null and h.not_before <= now()
order by o.priority, o.message_id
limit $1"""


async def list_heads(conn: Connection, limit: int) -> list[Record]:
    """Messages that may be sent now, the most urgent first."""
    return await conn.fetch(LIST_HEADS_SQL, limit)


CLAIM_SQL = """
update outbox set claimed_by = $2, claimed_at = now(), attempts = attempts + 1
where message_id = $1 and claimed_by is null and held_until is null and not_before <= now()
returning sender_id, attempts"""


async def claim(conn: Connection, message_id: UUID, owner: UUID) -> Record | None:
    """Take a message for sending; None where it is gone, somebody else's or not due."""
    return await conn.fetchrow(CLAIM_SQL, message_id, owner)


FINISH_SQL = "delete from outbox where message_id = $1"
# A claim is told by its number of attempts. It ends once: whoever repeats this, or comes late, changes nothing.
POSTPONE_SQL = """
update outbox set claimed_by = null, claimed_at = null, held_until = null,
                  not_before = now() + make_interval(secs => $3)
where message_id = $1 and attempts = $2 and (claimed_by is not null or held_until is not null)
returning true"""
HOLD_SQL = """
update outbox set held_until = now() + make_interval(secs => $3), claimed_by = null, claimed_at = null
where message_id = $1 and attempts = $2 and claimed_by is not null
returning true"""
RELEASE_SQL = """
delete from outbox using message m
where m.id = outbox.message_id and held_until is not null and (held_until < now() or m.status <> 'unknown')"""
LIST_ABANDONED_SQL = """
select message_id, conversation_id, attempts from outbox where claimed_by is not null and claimed_by <> $1"""


LIST_CLAIMED_SQL = "select message_id, conversation_id, attempts from outbox where claimed_by = $1"


async def list_claimed(conn: Connection, owner: UUID) -> list[Record]:
    """Messages that this sender has claimed."""
    return await conn.fetch(LIST_CLAIMED_SQL, owner)


async def finish(conn: Connection, message_id: UUID) -> None:
    """Its outcome is recorded."""
    await conn.execute(FINISH_SQL, message_id)


async def postpone(conn: Connection, message_id: UUID, attempts: int, seconds: float) -> bool:
    """This attempt was certainly not taken: try again later, even if it was held meanwhile. False: it waits no more."""
    return bool(await conn.fetchval(POSTPONE_SQL, message_id, attempts, seconds))


async def hold(conn: Connection, message_id: UUID, attempts: int, seconds: float) -> bool:
    """The outcome of this attempt is unknown: nothing of its conversation is sent for so long (E8).

    False where the attempt was settled by somebody else.
    """
    return bool(await conn.fetchval(HOLD_SQL, message_id, attempts, seconds))


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


async def claim_key(conn: Connection, service_id: UUID, route: str, key: str, body_hash: bytes) -> Record | None:
    """Claim an Idempotency-Key. None: it is ours, go on. Else what a twin stored, after waiting for it (E6)."""
    await conn.execute(FORGET_KEY_SQL, service_id, route, key)
    if await conn.fetchval(ADD_KEY_SQL, service_id, route, key, body_hash):
        return None
    return await conn.fetchrow(FIND_KEY_SQL, service_id, route, key)


async def set_answer(conn: Connection, service_id: UUID, route: str, key: str, status: int, answer: str) -> None:
    """Keep the answer for repetitions of the request."""
    await conn.execute(SET_ANSWER_SQL, service_id, route, key, status, answer)
