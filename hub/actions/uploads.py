"""Verb: take in a file that messages can then name (rule E10)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from hub.domain.ids import new_id, public_id
from hub.domain.media_links import PREFIX
from hub.store import media
from hub.store.files import Kept
from hub.store.media import MediaDraft
from hub.store.pool import Connection


async def add_upload(
    conn: Connection, service_id: UUID, kept: Kept, *, mime_type: str, filename: str, now: datetime
) -> dict[str, Any]:
    """Note a file that is on disk already; gives it as the API shows it."""
    draft = MediaDraft(new_id(), service_id, mime_type, filename, kept.size, kept.sha256)
    await media.add_media(conn, draft, now)
    return {
        "id": public_id(PREFIX, draft.id),
        "mime_type": mime_type,
        "filename": filename,
        "size": kept.size,
        "sha256": kept.sha256.hex(),
    }
