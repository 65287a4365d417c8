"""Lists of conversations for people to look through: those that moved last, all by age, those that wait or are held."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

_COLUMNS: Final = """
c.id, c.channel_id, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at, c.created_at,
c.picked_up_by, c.held_by"""
SPAN: Final = 20_000
"""Events of the log that one page of what moved last looks at."""

# By the log, newest first: what has an event above the place was on a page before. An index on the conversation's last
# move would cost every inbound message.
LIST_MOVED_SQL = f"""
with latest as (
    select l.conversation_id, l.id from (
        select e.conversation_id, max(e.id) as id from event e
        where e.id < $1 and e.id >= $1 - $4::bigint and e.conversation_id is not null
          and ($2::uuid[] is null or e.channel_id = any($2::uuid[]))
        group by e.conversation_id) l
    where not exists (
        select from event o where coalesce(o.conversation_id, o.channel_id) = l.conversation_id and o.id >= $1)
    order by l.id desc limit $3
)
select {_COLUMNS}, l.id as event_id
from latest l join conversation c on c.id = l.conversation_id join number n on n.id = c.number_id order by l.id desc"""
FIND_LAST_EVENT_SQL = "select last_value from event_id_seq"
LIST_ALL_SQL = f"""
select {_COLUMNS} from conversation c join number n on n.id = c.number_id where c.id < $1 order by c.id desc limit $2"""
# Channel by channel, by pairs that the index on both has in order.
LIST_OF_CHANNELS_SQL = f"""
select {_COLUMNS} from unnest($3::uuid[]) w (channel_id)
cross join lateral (
    select * from conversation r where (r.channel_id, r.id) < (w.channel_id, $1) and r.channel_id >= w.channel_id
    order by r.channel_id desc, r.id desc limit $2) c
join number n on n.id = c.number_id order by c.id desc limit $2"""
LIST_HELD_SQL = f"""
select {_COLUMNS} from (
    select p.conversation_id, min(p.since) as since from pickup p
    where p.expires_at > clock_timestamp() and ($3::uuid is null or p.service_id = $3) group by 1) p
join conversation c on c.id = p.conversation_id join number n on n.id = c.number_id
where c.id < $1 and ($4::uuid[] is null or c.channel_id = any($4::uuid[])) order by c.id desc limit $2"""
LIST_WAITING_SQL = f"""
select {_COLUMNS} from passed_conversation w join conversation c on c.id = w.conversation_id
join number n on n.id = c.number_id
where c.id < $1 and ($3::uuid is null or w.to_service_id = $3)
  and ($4::uuid[] is null or c.channel_id = any($4::uuid[])) order by c.id desc limit $2"""


async def find_end(conn: Connection) -> int:
    """A place behind every event of the log."""
    last: int = await conn.fetchval(FIND_LAST_EVENT_SQL)
    return last + 1


async def list_moved(conn: Connection, before: int, channels: Collection[UUID] | None, limit: int) -> list[Record]:
    """Conversations whose last event is below this place, as far as the log is looked through, the last ones first."""
    return await conn.fetch(LIST_MOVED_SQL, before, channels, limit, SPAN)


async def list_all(conn: Connection, before: UUID, channels: Collection[UUID] | None, limit: int) -> list[Record]:
    """Conversations of these channels (None: of all), the youngest first."""
    if channels is None:
        return await conn.fetch(LIST_ALL_SQL, before, limit)
    return await conn.fetch(LIST_OF_CHANNELS_SQL, before, limit, list(channels))


async def list_held(
    conn: Connection, before: UUID, channels: Collection[UUID] | None, holder: UUID | None, limit: int
) -> list[Record]:
    """Conversations that somebody has picked up, of this service or (None) of any."""
    return await conn.fetch(LIST_HELD_SQL, before, limit, holder, channels)


async def list_waiting(
    conn: Connection, before: UUID, channels: Collection[UUID] | None, receiver: UUID | None, limit: int
) -> list[Record]:
    """Conversations that were passed on and wait, for this service or (None) for any."""
    return await conn.fetch(LIST_WAITING_SQL, before, limit, receiver, channels)


LIST_CHANNELS_SQL = """
select ch.id as channel_id, ch.kind, n.e164, o.name as owner
from channel ch join number n on n.id = ch.number_id left join service o on o.id = ch.owner_service_id
where ($1::uuid is null or exists (
          select from subscription s where s.channel_id = ch.id and s.service_id = $1 and s.disconnected_at is null))
  and ($2::text is null or n.e164 = $2)
order by n.e164, ch.kind limit 1000"""


async def list_channels(conn: Connection, service_id: UUID | None, e164: str | None) -> list[Record]:
    """The channels that a service is connected to (None: all there are), of one number or of all."""
    return await conn.fetch(LIST_CHANNELS_SQL, service_id, e164)


COUNT_WAITING_SQL = """
select count(*) from (
    select from passed_conversation w join conversation c on c.id = w.conversation_id
    where ($1::uuid is null or w.to_service_id = $1) and ($2::uuid[] is null or c.channel_id = any($2::uuid[]))
    limit 1001) x"""


async def count_waiting(conn: Connection, channels: Collection[UUID] | None, receiver: UUID | None) -> int:
    """How many wait, up to 1001."""
    count: int = await conn.fetchval(COUNT_WAITING_SQL, receiver, channels)
    return count
