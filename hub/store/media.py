"""Files that services uploaded, and under which ids providers keep them (rule E10)."""

from collections.abc import Collection
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
insert into media (id, service_id, mime_type, filename, size, sha256, created_at) values ($1, $2, $3, $4, $5, $6, $7)"""
LIST_MEDIA_SQL = "select id, service_id, mime_type, filename, size, sha256 from media where id = any($1::uuid[])"


async def add_media(conn: Connection, draft: MediaDraft, at: datetime) -> None:
    """Note an uploaded file."""
    await conn.execute(
        ADD_MEDIA_SQL, draft.id, draft.service_id, draft.mime_type, draft.filename, draft.size, draft.sha256, at
    )


async def list_media(conn: Connection, ids: Collection[UUID]) -> dict[UUID, Record]:
    """Uploaded files by id."""
    if not ids:
        return {}
    return {row["id"]: row for row in await conn.fetch(LIST_MEDIA_SQL, list(ids))}


LIST_UPLOADS_SQL = """
select u.media_id, u.provider_id
from media_upload u join sender s on s.id = u.sender_id
where s.provider = $1 and s.medium = $2 and s.external_id = $3 and u.media_id = any($4::uuid[]) and u.expires_at > $5"""
# Twins may upload the same file at once; either id is good.
SAVE_UPLOAD_SQL = """
insert into media_upload (media_id, sender_id, provider_id, expires_at)
select $1, s.id, $2, $3 from sender s where s.provider = $4 and s.medium = $5 and s.external_id = $6 limit 1
on conflict (media_id, sender_id) do update set provider_id = excluded.provider_id, expires_at = excluded.expires_at"""


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
