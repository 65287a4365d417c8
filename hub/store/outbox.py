"""What waits to be handed to a provider (rules E8, E9), and the answers kept for repeated requests (E6)."""

from collections.abc import Collection
from uuid import UUID

from hub.domain.rates import Pair
from hub.store.pool import Connection, Record

ADD_SQL = """
insert into outbox (message_id, sender_id, conversation_id, sequence, priority) values ($1, $2, $3, $4, $5)"""


async def add(
    conn: Connection, message_id: UUID, sender_id: int, conversation_id: UUID, sequence: int, priority: int
) -> None:
    """Queue a message."""
    await conn.execute(ADD_SQL, message_id, sender_id, conversation_id, sequence, priority)


WALK_INDEXES_SQL = "select set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false)"


async def walk_indexes(conn: Connection) -> None:
    """Let this session look at the queue by its indexes only: the queue is now empty, now long, and a plan made for the
    one would read and sort all of the other.
    """
    await conn.execute(WALK_INDEXES_SQL)


# Only the head of a conversation may go (E9). A waiting agent reply lends its priority to the head before it: each
# sender's queue is walked in the order of urgency, only as far as needed; at a conversation's most urgent message its
# head is taken. Senders are found by stepping through the index, and those that may not send now are not walked at all.
# Conversations whose head may not go now are left out beforehand, or a throttled provider's would be walked each time;
# so are those of $3, whose customers may not be written to now.
LIST_HEADS_SQL = """
with recursive waiting as (
    (select sender_id from outbox order by sender_id limit 1)
    union all
    select (select o.sender_id from outbox o where o.sender_id > w.sender_id order by o.sender_id limit 1)
    from waiting w where w.sender_id is not null
)
select u.message_id, u.conversation_id, u.sender_id, s.medium, s.rate, s.provider,
       (select m.channel_id from message m where m.id = u.message_id) as channel_id,
       (select c.contact_id from conversation c where c.id = u.conversation_id) as contact_id,
       exists (select from sender_health h where h.sender_id = s.id and h.state <> 'ok') as is_unwell
from (
    select h.message_id, h.conversation_id, h.sender_id, h.urgency, h.urgent_id
    from waiting w cross join lateral (
        select p.message_id, p.conversation_id, p.sender_id, o.priority as urgency, o.message_id as urgent_id
        from outbox o cross join lateral (
            select * from outbox f where f.conversation_id = o.conversation_id
            order by f.sequence, f.message_id limit 1) p
        where o.sender_id = w.sender_id
          and o.conversation_id not in (
            select b.conversation_id from outbox b
            where (b.claimed_by is not null or b.held_until is not null or b.attempts > 0)
              and (b.claimed_by is not null or b.held_until is not null or b.not_before > now()))
          and o.message_id = (
            select q.message_id from outbox q where q.conversation_id = o.conversation_id
            order by q.priority, q.message_id limit 1)
          and p.claimed_by is null and p.held_until is null and p.not_before <= now()
          and p.sender_id <> all($2::bigint[])
          and o.conversation_id <> all($3::uuid[])
        order by o.priority, o.message_id
        limit $1) h
    where w.sender_id <> all($2::bigint[])
    order by h.urgency, h.urgent_id
    limit $1) u
join sender s on s.id = u.sender_id
order by u.urgency, u.urgent_id"""


async def list_heads(
    conn: Connection, limit: int, waiting: Collection[int] = (), held: Collection[UUID] = ()
) -> list[Record]:
    """Messages that may be sent now, the most urgent first, but for those of senders that are `waiting` and of
    conversations that are `held`; each with its customer and its sender, the sender's medium, provider, rate, and
    whether something is known to be wrong with it. The connection is one that walks indexes.
    """
    return await conn.fetch(LIST_HEADS_SQL, limit, list(waiting), list(held))


LIST_OF_PAIRS_SQL = """
select c.id from unnest($1::bigint[], $2::uuid[]) as p (sender_id, contact_id)
join sender s on s.id = p.sender_id
join conversation c on c.contact_id = p.contact_id and c.number_id = s.number_id and c.medium = s.medium"""


async def list_of_pairs(conn: Connection, pairs: Collection[Pair]) -> list[UUID]:
    """The conversations, of whichever channel, in which these senders write to these customers."""
    if not pairs:
        return []
    return [row["id"] for row in await conn.fetch(LIST_OF_PAIRS_SQL, *map(list, zip(*pairs, strict=True)))]


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
                  not_before = now() + make_interval(secs => $3), throttled = throttled + $4::integer
where message_id = $1 and attempts = $2 and (claimed_by is not null or held_until is not null)
returning true"""
GIVE_BACK_SQL = """
update outbox set claimed_by = null, claimed_at = null, not_before = now()
where message_id = $1 and attempts = $2 and claimed_by = $3"""
HOLD_SQL = """
update outbox set held_until = now() + make_interval(secs => $3), claimed_by = null, claimed_at = null
where message_id = $1 and attempts = $2 and claimed_by is not null
returning true"""
RELEASE_SQL = """
delete from outbox using message m
where m.id = outbox.message_id and held_until is not null and (held_until < now() or m.status <> 'unknown')"""
LIST_ABANDONED_SQL = """
select message_id, conversation_id, attempts from outbox
where claimed_by is not null and claimed_by <> $1 and claimed_at <= now() - make_interval(secs => $2)"""


LIST_CLAIMED_SQL = "select message_id, conversation_id, attempts from outbox where claimed_by = $1"


async def list_claimed(conn: Connection, owner: UUID) -> list[Record]:
    """Messages that this sender has claimed."""
    return await conn.fetch(LIST_CLAIMED_SQL, owner)


async def finish(conn: Connection, message_id: UUID) -> None:
    """Its outcome is recorded."""
    await conn.execute(FINISH_SQL, message_id)


async def postpone(
    conn: Connection, message_id: UUID, attempts: int, seconds: float, *, is_throttled: bool = False
) -> bool:
    """This attempt was certainly not taken: try again later, even if it was held meanwhile. False: it waits no more.
    One that `is_throttled` does not count as failed.
    """
    return bool(await conn.fetchval(POSTPONE_SQL, message_id, attempts, seconds, int(is_throttled)))


COUNT_THROTTLED_SQL = "select throttled from outbox where message_id = $1"


async def count_throttled(conn: Connection, message_id: UUID) -> int:
    """How many of a message's attempts came to nothing but for the provider's limits."""
    return await conn.fetchval(COUNT_THROTTLED_SQL, message_id) or 0


async def give_back(conn: Connection, message_id: UUID, attempts: int, owner: UUID) -> None:
    """This claim came to nothing: the message was never handed over. What became of the claim since then stays."""
    await conn.execute(GIVE_BACK_SQL, message_id, attempts, owner)


async def hold(conn: Connection, message_id: UUID, attempts: int, seconds: float) -> bool:
    """The outcome of this attempt is unknown: nothing of its conversation is sent for so long (E8).

    False where the attempt was settled by somebody else.
    """
    return bool(await conn.fetchval(HOLD_SQL, message_id, attempts, seconds))


async def release_held(conn: Connection) -> None:
    """Let conversations go on whose unknown was settled, or has held them long enough."""
    await conn.execute(RELEASE_SQL)


async def list_abandoned(conn: Connection, owner: UUID, seconds: float) -> list[Record]:
    """Messages that somebody other than the owner claimed, so many seconds ago or earlier."""
    return await conn.fetch(LIST_ABANDONED_SQL, owner, seconds)


LIST_UNKNOWN_SQL = """
select m.id, m.conversation_id, m.provider, m.medium, extract(epoch from now() - u.at)::float8 as age
from message_status u join message m on m.id = u.message_id
where u.reported = 'unknown' and u.at > now() - make_interval(secs => $2)
  and m.status = 'unknown' and m.provider = any($1)"""


async def list_unknown(conn: Connection, providers: Collection[str], seconds: float) -> list[Record]:
    """Messages of these providers whose outcome became unknown in the last so many seconds, with the seconds since."""
    return await conn.fetch(LIST_UNKNOWN_SQL, list(providers), seconds)


# Of long conversations only the end is looked at: what is still without a provider id is recent. What was sent counts:
# tokens tell two messages apart that say the same.
HAS_ALIKE_SQL = """
select exists (
    select from conversation mine
    join conversation c using (contact_id, number_id, medium)
    cross join lateral (select * from message r where r.conversation_id = c.id order by r.sequence desc limit 200) m
    left join sent_form f on f.message_id = m.id
    where mine.id = $2 and m.id <> $1 and m.direction = 'outbound' and m.provider_id is null
      and m.status in ('sending', 'unknown') and coalesce(f.content, m.content) = (
        select coalesce(g.content, o.content) from message o left join sent_form g on g.message_id = o.id
        where o.id = $1))"""


async def has_alike(conn: Connection, message_id: UUID, conversation_id: UUID) -> bool:
    """Whether the same was said to the same customer in another message that the provider has not named either."""
    return bool(await conn.fetchval(HAS_ALIKE_SQL, message_id, conversation_id))


# Only what was never handed out: a claimed message may be with the provider already.
TAKE_SQL = """
delete from outbox where message_id = $1 and attempts = 0 and claimed_by is null and held_until is null
returning true"""


async def take(conn: Connection, message_id: UUID) -> bool:
    """Take a message that was never handed out back from the queue; its conversation is locked (E11)."""
    return bool(await conn.fetchval(TAKE_SQL, message_id))


# Only what no sender has claimed: a claimed message may be with the provider already.
TAKE_AUTOMATION_SQL = """
delete from outbox using message m
where m.id = outbox.message_id and m.channel_id = $1 and m.author_service_id = $2 and m.origin <> 'agent'
  and outbox.claimed_by is null and outbox.held_until is null
returning m.id, m.conversation_id"""
LIST_AUTOMATION_SQL = """
select m.conversation_id from outbox o join message m on m.id = o.message_id
where m.channel_id = $1 and m.author_service_id = $2 and m.origin <> 'agent'
union
select m.conversation_id from schedule o join message m on m.id = o.message_id
where m.channel_id = $1 and m.author_service_id = $2"""


async def list_automation_conversations(conn: Connection, channel_id: UUID, service_id: UUID) -> list[UUID]:
    """Conversations in which a service has automation waiting, be it in the queue or for its time."""
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
