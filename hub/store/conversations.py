"""Conversations: one per channel, medium and customer (rule B8), numbering their events (rule B6)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.domain import window
from hub.domain.addresses import Address
from hub.domain.time_places import TimePlace
from hub.store.messages import MESSAGE_COLUMNS
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
    held_by: str | None = None
    """`external`: Meta's own agent holds it."""


# Whoever holds a conversation holds it for all channels of its number, those that come to it later included.
ADD_CONVERSATIONS_SQL = """
insert into conversation (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value,
                          held_by, held_since, control_at)
select c.*, h.held_by, h.held_since, h.control_at
from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[])
    as c (id, number_id, channel_id, medium, contact_id, reply_to_type, reply_to_value)
left join lateral (
    select o.held_by, o.held_since, o.control_at from conversation o
    where (o.contact_id, o.number_id, o.medium) = (c.contact_id, c.number_id, c.medium)
    order by o.control_at desc nulls last limit 1) h on true
order by c.channel_id, c.medium, c.contact_id
on conflict (channel_id, medium, contact_id) do nothing"""
FIND_CONVERSATIONS_SQL = """
select c.id, c.channel_id, c.medium, c.contact_id, c.generation, c.reply_to_type, c.reply_to_value, c.held_by
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
            row["id"], row["generation"], Address(row["reply_to_type"], row["reply_to_value"]), row["held_by"]
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
    picked_up_by: str | None
    """The longest-standing holder as JSON, its lease perhaps over (D1); `hub.actions.pick_up` keeps it."""
    held_by: str | None = None
    """`external`: Meta's own agent holds it, since `held_since`; `hub.actions.control` keeps it."""
    held_since: datetime | None = None
    control_at: datetime | None = None
    """Of what time the last news are of who holds it."""
    sends_to: str | None = None
    """The form of the customer's number that was seen to work for sending, where it is not the one of `reply_to`."""

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
       c.last_customer_at, c.reply_to_type, c.reply_to_value, c.picked_up_by, c.held_by, c.held_since, c.control_at,
       c.sends_to
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
        row["picked_up_by"],
        row["held_by"],
        row["held_since"],
        row["control_at"],
        row["sends_to"],
    )


NUMBER_EVENTS_SQL = """
update conversation c set last_sequence = c.last_sequence + x.events,
                          last_customer_at = greatest(c.last_customer_at, x.customer_at)
from (select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) as x (id, events, customer_at) order by id) x,
     number n
where c.id = x.id and n.id = c.number_id
returning c.id, c.number_id, n.e164, c.channel_id, c.medium, c.contact_id, c.generation,
          c.last_sequence - x.events as last_sequence, c.last_customer_at, c.reply_to_type, c.reply_to_value,
          c.picked_up_by, c.held_by, c.held_since, c.control_at, c.sends_to"""


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
    reply_to_type = s.reply_to_type, reply_to_value = s.reply_to_value, picked_up_by = s.picked_up_by,
    held_by = s.held_by, held_since = s.held_since, control_at = s.control_at, sends_to = s.sends_to,
    generation = c.generation + ((c.reply_to_type, c.reply_to_value, c.held_by)
                                 is distinct from (s.reply_to_type, s.reply_to_value, s.held_by))::int
from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::timestamptz[], $9::timestamptz[], $10::text[])
     as s (id, last_sequence, last_customer_at, reply_to_type, reply_to_value, picked_up_by, held_by, held_since,
           control_at, sends_to)
where c.id = s.id"""


async def save(conn: Connection, states: Sequence[ConversationState]) -> None:
    """Write locked conversations back; what processes remember of one whose hands or reply address changed is out of
    date then.
    """
    if states:
        await conn.execute(SAVE_SQL, *map(list, zip(*map(_saved, states), strict=True)))


def _saved(s: ConversationState) -> tuple[Any, ...]:
    return (
        s.id, s.last_sequence, s.last_customer_at, s.reply_to.type, s.reply_to.value, s.picked_up_by, s.held_by,
        s.held_since, s.control_at, s.sends_to,
    )  # fmt: skip


# Of a long conversation only its end is looked at: news that are older than it change nothing anyhow.
LAST_ORDINARY_SQL = """
select w.id, (select max(least(m.provider_time, m.created_at)) from (
                  select * from message r where r.conversation_id = w.id order by r.sequence desc limit 200) m
              where m.origin = 'customer' and not m.history
                and m.type not in ('system', 'call', 'unsupported')) as at
from unnest($1::uuid[]) as w (id)"""


async def list_last_ordinary_at(conn: Connection, ids: Collection[UUID]) -> dict[UUID, datetime | None]:
    """When the customer last wrote to us, and not to Meta's agent, in each of these conversations; by the provider's
    clock where it told, but not later than we heard of it.
    """
    rows = await conn.fetch(LAST_ORDINARY_SQL, list(ids)) if ids else []
    return {row["id"]: row["at"] for row in rows}


FIND_IN_REACH_SQL = """
select c.id, c.channel_id, ch.kind, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at, c.picked_up_by, c.held_by
from conversation c
join channel ch on ch.id = c.channel_id
join number n on n.id = c.number_id
join subscription s on s.channel_id = c.channel_id and s.service_id = $2 and s.disconnected_at is null
where c.id = $1"""


async def find_in_reach(conn: Connection, conversation_id: UUID, service_id: UUID) -> Record | None:
    """A conversation of a channel that this service is connected to, or None: what it may not see is not there (A4)."""
    return await conn.fetchrow(FIND_IN_REACH_SQL, conversation_id, service_id)


# Channel by channel, by pairs that the index on both has in order: what lies on other channels is not looked at,
# however much it is. By the id alone, the planner would walk all conversations and hope to meet a channel's own soon.
LIST_IN_REACH_SQL = """
select c.id, c.channel_id, ch.kind, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at, c.picked_up_by, c.held_by
from subscription s
join channel ch on ch.id = s.channel_id
join number n on n.id = ch.number_id
cross join lateral (
    select * from conversation r where (r.channel_id, r.id) > (s.channel_id, $2) and r.channel_id <= s.channel_id
    order by r.channel_id, r.id limit $3) c
where s.service_id = $1 and s.disconnected_at is null order by c.id limit $3"""
LIST_WAITING_IN_REACH_SQL = """
select c.id, c.channel_id, ch.kind, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at, c.picked_up_by, c.held_by
from passed_conversation w
join conversation c on c.id = w.conversation_id
join channel ch on ch.id = c.channel_id
join number n on n.id = c.number_id
join subscription s on s.channel_id = c.channel_id and s.service_id = $1 and s.disconnected_at is null
where w.to_service_id = $1 and c.id > $2 order by c.id limit $3"""


async def list_in_reach(
    conn: Connection, service_id: UUID, after: UUID, limit: int, *, is_waiting: bool = False
) -> list[Record]:
    """Conversations of all channels that this service is connected to, by age; `is_waiting`: those that were passed to
    it and wait for it (D4).
    """
    sql = LIST_WAITING_IN_REACH_SQL if is_waiting else LIST_IN_REACH_SQL
    return await conn.fetch(sql, service_id, after, limit)


LAST_CUSTOMER_AT_SQL = """
select max(last_customer_at) from conversation where contact_id = $1 and number_id = $2 and medium = $3"""
LIST_LAST_CUSTOMER_AT_SQL = """
select w.id, (select max(o.last_customer_at) from conversation o
              where o.contact_id = w.contact_id and o.number_id = w.number_id and o.medium = w.medium) as at
from conversation w where w.id = any($1::uuid[])"""


async def find_last_customer_at(conn: Connection, contact_id: UUID, number_id: int, medium: str) -> datetime | None:
    """When this customer last wrote to this number: the window belongs to the number, for all its channels (A3, E4)."""
    value: datetime | None = await conn.fetchval(LAST_CUSTOMER_AT_SQL, contact_id, number_id, medium)
    return value


async def list_last_customer_at(conn: Connection, ids: Collection[UUID]) -> dict[UUID, datetime | None]:
    """The same for the customers and numbers of these conversations."""
    rows = await conn.fetch(LIST_LAST_CUSTOMER_AT_SQL, list(ids)) if ids else []
    return {row["id"]: row["at"] for row in rows}


# Of a long conversation only its end is looked at: what is recent is there.
LIST_REPLIES_SQL = """
select m.author_service_id, s.name as author_name, m.agent_id, max(m.created_at) as at,
       (array_agg(m.agent_name order by m.sequence desc))[1] as agent_name
from (select * from message r where r.conversation_id = $1 order by r.sequence desc limit 200) m
join service s on s.id = m.author_service_id
where m.origin = 'agent' and m.created_at > $2 and m.status is distinct from 'cancelled'
group by 1, 2, 3"""
MOST_NEWER: Final = 1000
"""Messages that are counted as newer: of a long conversation only its end is looked at, for it is locked meanwhile."""
LIST_NEWER_SQL = """
select m.author_service_id, s.name as author_name, m.agent_id, count(*)::int as count, min(m.created_at) as since,
       max(m.sequence) as sequence, (array_agg(m.agent_name order by m.sequence desc))[1] as agent_name
from (select * from message r where r.conversation_id = $1 and r.sequence > $2 order by r.sequence desc limit $3) m
left join service s on s.id = m.author_service_id
group by 1, 2, 3"""


async def list_replies(conn: Connection, conversation_id: UUID, since: datetime) -> list[Record]:
    """Agents who answered after this time, each with the last time they did (D2)."""
    return await conn.fetch(LIST_REPLIES_SQL, conversation_id, since)


async def list_newer(conn: Connection, conversation_id: UUID, sequence: int) -> list[Record]:
    """Who wrote after this sequence number: how much, since when, and the number of the last (D3); of more than
    `MOST_NEWER` messages the last ones count.
    """
    return await conn.fetch(LIST_NEWER_SQL, conversation_id, sequence, MOST_NEWER)


LIST_MESSAGES_BEFORE_SQL = f"""
select {MESSAGE_COLUMNS}
from unnest($1::uuid[], $2::bigint[]) as w (conversation_id, position)
cross join lateral (
    select * from message r where r.conversation_id = w.conversation_id and r.sequence < w.position
    order by r.sequence desc limit $3) m
left join service s on s.id = m.author_service_id
order by m.conversation_id, m.sequence desc"""
LIST_MESSAGES_AFTER_SQL = f"""
select {MESSAGE_COLUMNS}
from unnest($1::uuid[], $2::bigint[]) as w (conversation_id, position)
cross join lateral (
    select * from message r where r.conversation_id = w.conversation_id and r.sequence > w.position
    order by r.sequence limit $3) m
left join service s on s.id = m.author_service_id
order by m.conversation_id, m.sequence"""


async def list_messages(
    conn: Connection, positions: Mapping[UUID, int], limit: int, *, is_forward: bool
) -> dict[UUID, list[Record]]:
    """The messages of several conversations next to a place in each: above it, oldest first, or below it, newest first;
    at most `limit` of each.
    """
    sql = LIST_MESSAGES_AFTER_SQL if is_forward else LIST_MESSAGES_BEFORE_SQL
    found: dict[UUID, list[Record]] = {}
    for row in await conn.fetch(sql, list(positions), list(positions.values()), limit):
        found.setdefault(row["conversation_id"], []).append(row)
    return found


# By the conversation's index, then sorted: an index on the time would cost every insert.
_TIME: Final = "coalesce(m.provider_time, m.created_at)"
LIST_BEFORE_TIME_SQL = f"""
select {MESSAGE_COLUMNS}, {_TIME} as place_at from message m left join service s on s.id = m.author_service_id
where m.conversation_id = $1 and ({_TIME}, m.sequence) < ($2, $3) order by {_TIME} desc, m.sequence desc limit $4"""
LIST_AFTER_TIME_SQL = f"""
select {MESSAGE_COLUMNS}, {_TIME} as place_at from message m left join service s on s.id = m.author_service_id
where m.conversation_id = $1 and ({_TIME}, m.sequence) > ($2, $3) order by {_TIME}, m.sequence limit $4"""


async def list_by_time(
    conn: Connection, conversation_id: UUID, place: TimePlace, limit: int, *, is_forward: bool
) -> list[Record]:
    """Messages of a conversation by the provider's time, or by ours where it told none: behind a place, oldest first,
    or before it, newest first; each with its time as `place_at`.
    """
    sql = LIST_AFTER_TIME_SQL if is_forward else LIST_BEFORE_TIME_SQL
    return await conn.fetch(sql, conversation_id, *place, limit)
