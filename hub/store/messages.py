"""Messages and what became of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.store.pool import Connection, Record

MESSAGE_COLUMNS = """
m.id, m.conversation_id, m.channel_id, m.number_id, m.sequence, m.direction, m.medium, m.type, m.origin,
m.author_service_id, s.name as author_name, m.agent_id, m.agent_name, m.parent_epoch, m.content, m.provider,
m.provider_id, m.provider_time, m.status, m.error, m.conflict, m.unrouted, m.raw, m.created_at, m.edited_at,
m.deleted_at, m.campaign, m.send_at, m.segments, m.untracked_segments, m.reconciled, m.history"""


@dataclass(frozen=True, slots=True)
class MessageDraft:
    """A message to be stored; `content` holds the fields of the events contract, by name."""

    id: UUID
    number_id: int
    channel_id: UUID
    conversation_id: UUID
    sequence: int
    direction: str
    medium: str
    type: str
    origin: str
    content: dict[str, Any]
    provider: str
    created_at: datetime
    provider_id: str | None = None
    provider_time: datetime | None = None
    status: str | None = None
    author_service_id: UUID | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    parent_epoch: int | None = None
    unrouted: bool = False
    raw: str | None = None
    campaign: str | None = None
    send_at: datetime | None = None
    segments: int | None = None
    untracked_segments: int | None = None
    reconciled: bool = False
    history: bool = False


COLUMNS: Final = (
    "id", "number_id", "channel_id", "conversation_id", "sequence", "direction", "medium", "type", "origin", "content",
    "provider", "created_at", "provider_id", "provider_time", "status", "author_service_id", "agent_id", "agent_name",
    "parent_epoch", "unrouted", "raw", "campaign", "send_at", "segments", "untracked_segments",
    "reconciled", "history",
)  # fmt: skip


async def add_messages(conn: Connection, drafts: Sequence[MessageDraft]) -> None:
    """Store messages; the caller holds the locks of their conversations."""
    if drafts:
        await conn.copy_records_to_table("message", records=map(_row, drafts), columns=COLUMNS)


def _row(d: MessageDraft) -> tuple[Any, ...]:
    return (
        d.id, d.number_id, d.channel_id, d.conversation_id, d.sequence, d.direction, d.medium, d.type, d.origin,
        orjson.dumps(d.content).decode(), d.provider, d.created_at, d.provider_id, d.provider_time, d.status,
        d.author_service_id, d.agent_id, d.agent_name, d.parent_epoch, d.unrouted, d.raw,
        d.campaign, d.send_at, d.segments, d.untracked_segments, d.reconciled, d.history,
    )  # fmt: skip


FIND_SENT_AS_SQL = """
select m.provider, m.provider_id, m.id, m.conversation_id
from unnest($1::text[], $2::text[]) as w (provider, provider_id)
join message m on m.provider = w.provider and m.provider_id = w.provider_id and m.direction = 'outbound'"""
FIND_OUTBOUND_SQL = """
select id, conversation_id, provider, provider_id from message where id = any($1::uuid[]) and direction = 'outbound'"""


async def find_sent_as(
    conn: Connection, provider_ids: Collection[tuple[str, str]]
) -> dict[tuple[str, str], list[tuple[UUID, UUID]]]:
    """Outbound messages by provider and provider id, one for each channel: the message's and the conversation's id."""
    found: dict[tuple[str, str], list[tuple[UUID, UUID]]] = {}
    if provider_ids:
        for row in await conn.fetch(FIND_SENT_AS_SQL, *map(list, zip(*provider_ids, strict=True))):
            found.setdefault((row["provider"], row["provider_id"]), []).append((row["id"], row["conversation_id"]))
    return found


async def find_outbound(conn: Connection, ids: Collection[UUID]) -> dict[UUID, Record]:
    """Outbound messages among these ids, with conversation, provider and provider id."""
    if not ids:
        return {}
    return {row["id"]: row for row in await conn.fetch(FIND_OUTBOUND_SQL, list(ids))}


FIND_AUTHORS_SQL = """
select m.provider_id, m.author_service_id
from unnest($1::text[], $2::text[]) as w (provider, provider_id)
join message m on m.provider = w.provider and m.provider_id = w.provider_id and m.direction = 'outbound'
where m.author_service_id is not null"""


async def find_authors(conn: Connection, provider_ids: Collection[tuple[str, str]]) -> dict[str, UUID]:
    """Which service wrote each of these messages, where one did."""
    if not provider_ids:
        return {}
    rows = await conn.fetch(FIND_AUTHORS_SQL, *map(list, zip(*provider_ids, strict=True)))
    return {row["provider_id"]: row["author_service_id"] for row in rows}


# Of a long conversation only its end is looked at: what is still without a provider id is recent.
FIND_UNNAMED_SQL = """
select c.id as conversation_id, m.author_service_id
from unnest($1::uuid[]) as c (id)
cross join lateral (
    select * from (
        select * from message r where r.conversation_id = c.id order by r.sequence desc limit 200) recent
    where recent.direction = 'outbound' and recent.provider_id is null and recent.author_service_id is not null
      and recent.status in ('sending', 'unknown')
    order by recent.sequence desc limit 1) m"""


async def find_unnamed_authors(conn: Connection, conversation_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Who wrote the last message of each conversation that the provider may have and has not named to us yet."""
    rows = await conn.fetch(FIND_UNNAMED_SQL, list(conversation_ids)) if conversation_ids else []
    return {row["conversation_id"]: row["author_service_id"] for row in rows}


# By id, never by walking through a long conversation: what is inbound and what is outbound have an index each.
FIND_RECEIVED_AS_SQL = """
with wanted as (
    select * from unnest($1::text[], $2::uuid[], $3::text[]) as w (provider, conversation_id, provider_id)
)
select m.id, m.conversation_id, m.provider_id, m.type, m.sequence, m.direction, m.author_service_id, m.created_at,
       m.history
from wanted w
join message m on m.provider_id = w.provider_id and m.direction = 'inbound'
where m.conversation_id = w.conversation_id
union all
select m.id, m.conversation_id, m.provider_id, m.type, m.sequence, m.direction, m.author_service_id, m.created_at,
       m.history
from wanted w
join message m on m.provider = w.provider and m.provider_id = w.provider_id and m.direction = 'outbound'
where m.conversation_id = w.conversation_id"""


async def find_in_conversations(
    conn: Connection, targets: Collection[tuple[str, UUID, str]]
) -> dict[tuple[UUID, str], dict[str, Any]]:
    """Messages of (provider, conversation, provider id), by conversation and provider id: what an edit, a revoke or a
    reaction is about.
    """
    if not targets:
        return {}
    rows = await conn.fetch(FIND_RECEIVED_AS_SQL, *map(list, zip(*targets, strict=True)))
    return {(row["conversation_id"], row["provider_id"]): dict(row) for row in rows}


# An outbound message is one per channel, whatever conversation it is in.
FIND_STORED_SQL = """
with wanted as (
    select * from unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[])
        as w (provider, provider_id, channel_id, conversation_id)
)
select w.conversation_id, m.provider_id, m.id, m.type, m.history
from wanted w
join message m on m.provider = w.provider and m.provider_id = w.provider_id and m.channel_id = w.channel_id
    and m.direction = 'outbound'
union all
select w.conversation_id, m.provider_id, m.id, m.type, m.history
from wanted w
join message m on m.provider_id = w.provider_id and m.direction = 'inbound'
where m.conversation_id = w.conversation_id"""


async def find_stored(
    conn: Connection, wanted: Collection[tuple[str, str, UUID, UUID]]
) -> dict[tuple[UUID, str], Record]:
    """Which of these (provider, provider id, channel, conversation) are in the timeline, by conversation and id."""
    if not wanted:
        return {}
    rows = await conn.fetch(FIND_STORED_SQL, *map(list, zip(*wanted, strict=True)))
    return {(row["conversation_id"], row["provider_id"]): row for row in rows}


FIND_LOWEST_SQL = """
select w.id, (select min(m.sequence) from message m where m.conversation_id = w.id) as sequence
from unnest($1::uuid[]) as w (id)"""


async def find_lowest(conn: Connection, conversation_ids: Collection[UUID]) -> dict[UUID, int]:
    """The lowest number in each of these timelines; those without messages are left out."""
    rows = await conn.fetch(FIND_LOWEST_SQL, list(conversation_ids)) if conversation_ids else []
    return {row["id"]: row["sequence"] for row in rows if row["sequence"] is not None}


REMOVE_SQL = """
with gone as (delete from message where id = any($1::uuid[]) and history returning id)
delete from message_media using gone where message_id = gone.id"""


async def remove(conn: Connection, ids: Collection[UUID]) -> None:
    """Take messages of the history out of timelines, in whose place others are stored; their files stay."""
    if ids:
        await conn.execute(REMOVE_SQL, list(ids))


SET_CONTENTS_SQL = """
update message set content = e.content, type = e.type, edited_at = case when history then edited_at else $4 end
from unnest($1::uuid[], $2::text[], $3::text[]) as e (id, type, content) where message.id = e.id"""
SET_DELETED_SQL = "update message set deleted_at = $2 where id = any($1::uuid[])"


async def set_contents(conn: Connection, edits: Sequence[tuple[UUID, str, dict[str, Any]]], at: datetime) -> None:
    """Messages (id, type, content) were edited; what history lacked and was told later is no edit. The last word
    counts.
    """
    if edits:
        last = {message_id: (message_id, kind, orjson.dumps(content).decode()) for message_id, kind, content in edits}
        await conn.execute(SET_CONTENTS_SQL, *map(list, zip(*last.values(), strict=True)), at)


async def set_deleted(conn: Connection, message_ids: Collection[UUID], at: datetime) -> None:
    """The customer revoked them; what they wrote before stays in the record."""
    if message_ids:
        await conn.execute(SET_DELETED_SQL, list(message_ids), at)


LOCK_MESSAGES_SQL = f"""
select {MESSAGE_COLUMNS} from message m left join service s on s.id = m.author_service_id
where m.id = any($1::uuid[]) order by m.id for update of m"""


async def lock_messages(conn: Connection, ids: Collection[UUID]) -> dict[UUID, Record]:
    """Lock messages in one order, after their conversations."""
    if not ids:
        return {}
    return {row["id"]: row for row in await conn.fetch(LOCK_MESSAGES_SQL, list(ids))}


SET_STATUSES_SQL = """
update message set status = s.status, conflict = s.conflict, error = coalesce(s.error, message.error),
                   provider_id = coalesce(message.provider_id, s.provider_id)
from unnest($1::uuid[], $2::text[], $3::boolean[], $4::text[], $5::text[])
     as s (id, status, conflict, error, provider_id)
where message.id = s.id"""
ADD_STATUSES_SQL = """
insert into message_status (message_id, reported, status, at, provider_time, details)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[])
on conflict (message_id, reported) do nothing"""
LIST_STATUSES_SQL = """
select message_id, reported, status, at, provider_time, details from message_status
where message_id = any($1::uuid[]) order by at, reported"""


async def set_statuses(conn: Connection, rows: Sequence[tuple[UUID, str, bool, str | None, str | None]]) -> None:
    """Write (id, status, conflict, error, provider id) of locked messages."""
    if rows:
        await conn.execute(SET_STATUSES_SQL, *map(list, zip(*rows, strict=True)))


async def add_statuses(
    conn: Connection, rows: Sequence[tuple[UUID, str, str | None, datetime, datetime | None, str | None]]
) -> None:
    """Record (message, reported, status, at, provider's time, details); what was reported before is kept."""
    if rows:
        await conn.execute(ADD_STATUSES_SQL, *map(list, zip(*rows, strict=True)))


async def list_statuses(conn: Connection, ids: Collection[UUID]) -> dict[UUID, list[Record]]:
    """The status history of each message, oldest first."""
    history: dict[UUID, list[Record]] = {}
    if ids:
        for row in await conn.fetch(LIST_STATUSES_SQL, list(ids)):
            history.setdefault(row["message_id"], []).append(row)
    return history


FIND_MESSAGE_SQL = (
    f"select {MESSAGE_COLUMNS} from message m left join service s on s.id = m.author_service_id where m.id = $1"
)
LIST_BEFORE_SQL = f"""
select {MESSAGE_COLUMNS} from message m left join service s on s.id = m.author_service_id
where m.conversation_id = $1 and m.sequence < $2 order by m.sequence desc limit $3"""
LIST_AFTER_SQL = f"""
select {MESSAGE_COLUMNS} from message m left join service s on s.id = m.author_service_id
where m.conversation_id = $1 and m.sequence > $2 order by m.sequence limit $3"""


async def find_message(conn: Connection, message_id: UUID) -> Record | None:
    """One message."""
    return await conn.fetchrow(FIND_MESSAGE_SQL, message_id)


async def list_before(conn: Connection, conversation_id: UUID, sequence: int, limit: int) -> list[Record]:
    """The timeline below a sequence number, newest first."""
    return await conn.fetch(LIST_BEFORE_SQL, conversation_id, sequence, limit)


async def list_after(conn: Connection, conversation_id: UUID, sequence: int, limit: int) -> list[Record]:
    """The timeline above a sequence number, oldest first."""
    return await conn.fetch(LIST_AFTER_SQL, conversation_id, sequence, limit)
