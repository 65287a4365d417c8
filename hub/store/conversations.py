"""Conversations: one per channel, medium and customer (rule B8), numbering their events (rule B6)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.domain import window
from hub.domain.addresses import Address
from hub.store.pool import Connection, Record

ConversationKey = tuple[UUID, str, UUID]
"""Channel, medium, contact."""


@dataclass(frozen=True, slots=True)
class ConversationDraft:
    """A conversation that may have to be made; `reply_to` is the form of address that replies are sent to."""

    id: UUID
    number_id: int
    channel_id: UUID
    medium: str
    contact_id: UUID
    reply_to: Address

    @property
    def key(self) -> ConversationKey:
        """What makes it unique."""
        return self.channel_id, self.medium, self.contact_id


@dataclass(frozen=True, slots=True)
class ConversationRef:
    """What a process may remember of a conversation, valid while its generation stands."""

    id: UUID
    generation: int
    reply_to: Address


ADD_CONVERSATIONS_SQL = """
insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[])
    as c (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
order by channel_id, medium, contact_id
on conflict (channel_id, medium, contact_id) do nothing"""
FIND_CONVERSATIONS_SQL = """
select c.id, c.channel_id, c.medium, c.contact_id, c.generation, c.reply_to_type, c.reply_to_value
from unnest($1::uuid[], $2::text[], $3::uuid[]) as w (channel_id, medium, contact_id)
join conversation c using (channel_id, medium, contact_id)"""


async def find_or_add(
    conn: Connection, drafts: Collection[ConversationDraft]
) -> dict[ConversationKey, ConversationRef]:
    """The conversations these drafts ask for, made where they do not exist."""
    wanted = {draft.key: draft for draft in drafts}
    found = await _find(conn, wanted)
    missing = [draft for key, draft in wanted.items() if key not in found]
    if missing:
        rows = [
            (d.id, d.number_id, d.channel_id, d.medium, d.contact_id, d.reply_to.type, d.reply_to.value)
            for d in missing
        ]
        await conn.execute(ADD_CONVERSATIONS_SQL, *map(list, zip(*rows, strict=True)))
        found |= await _find(conn, {draft.key for draft in missing})
    return found


async def _find(conn: Connection, keys: Collection[ConversationKey]) -> dict[ConversationKey, ConversationRef]:
    if not keys:
        return {}
    rows = await conn.fetch(FIND_CONVERSATIONS_SQL, *map(list, zip(*keys, strict=True)))
    return {
        (row["channel_id"], row["medium"], row["contact_id"]): ConversationRef(
            row["id"], row["generation"], Address(row["reply_to_type"], row["reply_to_value"])
        )
        for row in rows
    }


@dataclass(slots=True)
class ConversationState:
    """A conversation locked to the end of the transaction; written back by `save`."""

    id: UUID
    number_id: int
    e164: str
    channel_id: UUID
    medium: str
    contact_id: UUID
    generation: int
    last_sequence: int
    last_customer_at: datetime | None
    reply_to: Address

    @property
    def reply_window_expires_at(self) -> datetime | None:
        """Until when one may write freely (E4)."""
        return window.expires_at(self.medium, self.last_customer_at)

    def next_sequence(self) -> int:
        """The number of its next event."""
        self.last_sequence += 1
        return self.last_sequence


LOCK_SQL = """
select c.id, c.number_id, n.e164, c.channel_id, c.medium, c.contact_id, c.generation, c.last_sequence,
       c.last_customer_at, c.reply_to_type, c.reply_to_value
from conversation c join number n on n.id = c.number_id
where c.id = any($1::uuid[]) order by c.id for update of c"""


async def lock(conn: Connection, ids: Collection[UUID]) -> dict[UUID, ConversationState]:
    """Lock conversations in one order (E2) and read them as they then are."""
    if not ids:
        return {}
    return {row["id"]: _state(row) for row in await conn.fetch(LOCK_SQL, list(ids))}


def _state(row: Record) -> ConversationState:
    return ConversationState(
        row["id"],
        row["number_id"],
        row["e164"],
        row["channel_id"],
        row["medium"],
        row["contact_id"],
        row["generation"],
        row["last_sequence"],
        row["last_customer_at"],
        Address(row["reply_to_type"], row["reply_to_value"]),
    )


NUMBER_EVENTS_SQL = """
update conversation c set last_sequence = c.last_sequence + x.events,
                          last_customer_at = greatest(c.last_customer_at, x.customer_at)
from (select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) as x (id, events, customer_at) order by id) x,
     number n
where c.id = x.id and n.id = c.number_id
returning c.id, c.number_id, n.e164, c.channel_id, c.medium, c.contact_id, c.generation,
          c.last_sequence - x.events as last_sequence, c.last_customer_at, c.reply_to_type, c.reply_to_value"""


async def number_events(
    conn: Connection, wanted: Mapping[UUID, tuple[int, datetime | None]]
) -> dict[UUID, ConversationState]:
    """Lock conversations, take so many sequence numbers of each, and note when the customer wrote.

    The states start below the numbers taken: `next_sequence` hands them out. One statement for the whole batch; its
    connection must be one that joins in the order given (`Database.dedicated`), so that locks are taken by id (E2).
    """
    if not wanted:
        return {}
    ids = sorted(wanted)
    events, times = zip(*(wanted[key] for key in ids), strict=True)
    return {row["id"]: _state(row) for row in await conn.fetch(NUMBER_EVENTS_SQL, ids, events, times)}


SAVE_SQL = """
update conversation c
set last_sequence = s.last_sequence, last_customer_at = s.last_customer_at,
    reply_to_type = s.reply_to_type, reply_to_value = s.reply_to_value,
    generation = c.generation
               + ((c.reply_to_type, c.reply_to_value) is distinct from (s.reply_to_type, s.reply_to_value))::int
from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[])
     as s (id, last_sequence, last_customer_at, reply_to_type, reply_to_value)
where c.id = s.id"""


async def save(conn: Connection, states: Sequence[ConversationState]) -> None:
    """Write locked conversations back."""
    if not states:
        return
    rows = [(s.id, s.last_sequence, s.last_customer_at, s.reply_to.type, s.reply_to.value) for s in states]
    await conn.execute(SAVE_SQL, *map(list, zip(*rows, strict=True)))


FIND_IN_REACH_SQL = """
select c.id, c.channel_id, ch.kind, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at
from conversation c
join channel ch on ch.id = c.channel_id
join number n on n.id = c.number_id
join subscription s on s.channel_id = c.channel_id and s.service_id = $2 and s.disconnected_at is null
where c.id = $1"""


async def find_in_reach(conn: Connection, conversation_id: UUID, service_id: UUID) -> Record | None:
    """A conversation of a channel that this service is connected to, or None: what it may not see is not there (A4)."""
    return await conn.fetchrow(FIND_IN_REACH_SQL, conversation_id, service_id)


LIST_IN_REACH_SQL = """
select c.id, c.channel_id, ch.kind, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at
from conversation c
join channel ch on ch.id = c.channel_id
join number n on n.id = c.number_id
join subscription s on s.channel_id = c.channel_id and s.service_id = $1 and s.disconnected_at is null
where c.id > $2 order by c.id limit $3"""


async def list_in_reach(conn: Connection, service_id: UUID, after: UUID, limit: int) -> list[Record]:
    """Conversations of all channels that this service is connected to, by age."""
    return await conn.fetch(LIST_IN_REACH_SQL, service_id, after, limit)


LAST_CUSTOMER_AT_SQL = """
select max(last_customer_at) from conversation where contact_id = $1 and number_id = $2 and medium = $3"""


async def find_last_customer_at(conn: Connection, contact_id: UUID, number_id: int, medium: str) -> datetime | None:
    """When this customer last wrote to this number: the window belongs to the number, for all its channels (A3, E4)."""
    value: datetime | None = await conn.fetchval(LAST_CUSTOMER_AT_SQL, contact_id, number_id, medium)
    return value
