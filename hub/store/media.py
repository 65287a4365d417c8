"""Files of services and of customers: what they are, who may have them, and under which ids providers keep them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class MediaDraft:
    """An uploaded file; its bytes are kept by their SHA-256."""

    id: UUID
    service_id: UUID
    mime_type: str
    filename: str
    size: int
    sha256: bytes


ADD_MEDIA_SQL = """
insert into media (id, service_id, mime_type, filename, size, sha256, created_at, kept_at)
values ($1, $2, $3, $4, $5, $6, $7, $7)"""
LIST_MEDIA_SQL = """
select m.id, m.service_id, m.mime_type, m.filename, m.size, m.sha256, m.state, m.error, m.created_at, f.next_at
from media m left join media_fetch f on f.media_id = m.id where m.id = any($1::uuid[])"""
LOCK_MEDIA_SQL = """
select id, service_id, mime_type, filename, size from media
where id = any($1::uuid[]) and state = 'kept' order by id for key share"""


async def add_media(conn: Connection, draft: MediaDraft, at: datetime) -> None:
    """Note an uploaded file."""
    await conn.execute(
        ADD_MEDIA_SQL, draft.id, draft.service_id, draft.mime_type, draft.filename, draft.size, draft.sha256, at
    )


async def list_media(conn: Connection, ids: Collection[UUID]) -> dict[UUID, Record]:
    """Files by id; `sha256` of one that is not kept is what the provider announced, if anything."""
    if not ids:
        return {}
    return {row["id"]: row for row in await conn.fetch(LIST_MEDIA_SQL, list(ids))}


async def hold_media(conn: Connection, ids: Collection[UUID]) -> dict[UUID, Record]:
    """Files that are kept, and go on to be until this transaction ends."""
    if not ids:
        return {}
    return {row["id"]: row for row in await conn.fetch(LOCK_MEDIA_SQL, list(ids))}


ADD_LINKS_SQL = """
insert into message_media (message_id, media_id) select * from unnest($1::uuid[], $2::uuid[]) on conflict do nothing"""
# The newest first: of what a service may see, it may see that.
LIST_REACH_SQL = """
select m.channel_id, m.author_service_id, m.created_at
from message_media l
join message m on m.id = l.message_id
join subscription u on u.channel_id = m.channel_id and u.service_id = $2 and u.disconnected_at is null
where l.media_id = $1
order by m.created_at desc limit 1000"""


async def add_links(conn: Connection, links: Sequence[tuple[UUID, UUID]]) -> None:
    """Note which messages (first) hold which files."""
    if links:
        await conn.execute(ADD_LINKS_SQL, *map(list, zip(*links, strict=True)))


async def list_reach(conn: Connection, media_id: UUID, service_id: UUID) -> list[Record]:
    """The messages with this file on the channels a service is connected to: channel, author, when it was written."""
    return await conn.fetch(LIST_REACH_SQL, media_id, service_id)


LIST_UPLOADS_SQL = """
select u.media_id, u.provider_id
from media_upload u join sender s on s.id = u.sender_id
where s.provider = $1 and s.medium = $2 and s.external_id = $3 and u.media_id = any($4::uuid[]) and u.expires_at > $5"""
# Twins may upload the same file at once; either id is good.
SAVE_UPLOAD_SQL = """
insert into media_upload (media_id, sender_id, provider_id, expires_at)
select $1, s.id, $2, $3 from sender s where s.provider = $4 and s.medium = $5 and s.external_id = $6 limit 1
on conflict (media_id, sender_id) do update set provider_id = excluded.provider_id, expires_at = excluded.expires_at"""
FORGET_UPLOADS_SQL = """
delete from media_upload u using sender s
where s.id = u.sender_id and s.provider = $1 and s.medium = $2 and s.external_id = $3
  and u.provider_id = any($4::text[]) and u.expires_at < $5"""


async def list_uploads(
    conn: Connection, sender: tuple[str, str, str], ids: Collection[UUID], now: datetime
) -> dict[UUID, str]:
    """Under which ids the sender (provider, medium, external id) keeps these files, where it still does."""
    rows = await conn.fetch(LIST_UPLOADS_SQL, *sender, list(ids), now) if ids else []
    return {row["media_id"]: row["provider_id"] for row in rows}


async def save_upload(
    conn: Connection, sender: tuple[str, str, str], media_id: UUID, provider_id: str, expires_at: datetime
) -> None:
    """A sender keeps a file under this id, until then."""
    await conn.execute(SAVE_UPLOAD_SQL, media_id, provider_id, expires_at, *sender)


async def forget_uploads(
    conn: Connection, sender: tuple[str, str, str], provider_ids: Collection[str], before: datetime
) -> bool:
    """The sender keeps no files under these ids; tells whether one was thought to be good, and was to end `before`."""
    return bool(await conn.execute(FORGET_UPLOADS_SQL, *sender, list(provider_ids), before) != "DELETE 0")
