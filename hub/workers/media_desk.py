"""Files of messages that are about to be sent: uploaded to the provider once, or given as an address it may fetch
(rule E10).
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from hub.domain.errors import Unavailable
from hub.domain.ids import parse_id
from hub.domain.media_links import PREFIX, MediaLinks
from hub.store import media
from hub.store.files import Files
from hub.store.pool import Database, Record, TryAgain
from providers.base import (
    NotTaken,
    OutboundMedia,
    OutboundMessage,
    OutcomeUnknown,
    Provider,
    Refused,
    SendError,
    Upload,
)

log = structlog.get_logger()

KEPT_FOR: Final = timedelta(days=29)
"""How long a provider keeps a file at least (`Provider.upload`)."""
_LEFT: Final = timedelta(hours=1)
"""An upload that ends sooner is not counted on: the provider has to fetch the file yet."""


@dataclass(frozen=True, slots=True)
class MediaDesk:
    """Turns the files a message names into what its provider takes."""

    database: Database
    providers: Mapping[str, Provider]
    files: Files
    links: MediaLinks

    async def prepare(self, provider: str, message: OutboundMessage) -> OutboundMessage:
        """The message with its files. Raises `SendError`, never `OutcomeUnknown`: nothing of it is sent yet."""
        wanted: Sequence[Mapping[str, Any]] = message.content.get("media") or ()
        if not wanted:
            return message
        ids = {file["id"]: parse_id(PREFIX, file["id"]) for file in wanted if "id" in file}
        sender, now = (provider, message.medium, message.sender), datetime.now(UTC)
        try:
            async with self.database.reading() as conn:
                rows = await media.list_media(conn, ids.values())
                uploads = await media.list_uploads(conn, sender, ids.values(), now + _LEFT)
        except Unavailable as error:
            raise NotTaken("internal", "the database was away before the provider was called") from error
        made = []
        for file in wanted:
            media_id = ids.get(file.get("id", ""))
            if media_id is None:
                made.append(OutboundMedia(file.get("url"), None, file.get("mime_type"), file.get("filename")))
                continue
            row = rows.get(media_id)
            if row is None or not self.files.path(row["sha256"]).is_file():
                raise Refused("media_unavailable", "the file is no longer kept by the hub")
            made.append(await self._own(sender, row, file, uploads.get(media_id)))
        return replace(message, media=made)

    async def _own(
        self, sender: tuple[str, str, str], row: Record, file: Mapping[str, Any], known: str | None
    ) -> OutboundMedia:
        """A file of the hub's, as the provider takes it."""
        name, mime_type = file.get("filename") or row["filename"], row["mime_type"]
        adapter = self.providers.get(sender[0])
        can = next((can for medium, can in adapter.supports.items() if medium == sender[1]), ()) if adapter else ()
        if adapter is None or "upload" not in can:
            url = self.links.url(row["id"], datetime.now(UTC).timestamp())
            return OutboundMedia(url, None, mime_type, name)
        provider_id = known or await self._upload(adapter, sender, row["id"], row["sha256"], mime_type, name)
        return OutboundMedia(None, provider_id, mime_type, name)

    async def _upload(
        self, adapter: Provider, sender: tuple[str, str, str], media_id: UUID, sha256: bytes, mime_type: str, name: str
    ) -> str:
        wanted = Upload(sender[2], self.files.path(sha256), mime_type, name)
        try:
            provider_id = await adapter.upload(wanted)
        except OutcomeUnknown as error:  # of the upload: the message was certainly not sent, and may be tried again
            raise NotTaken(error.code, error.detail, provider_code=error.provider_code) from error
        except SendError:
            raise
        except Exception as error:
            log.exception("media.upload_broke", provider=sender[0], media=str(media_id))
            raise NotTaken("internal", type(error).__name__) from error
        log.info("media.uploaded", provider=sender[0], media=str(media_id))
        with suppress(Unavailable, TryAgain):  # then it is uploaded again next time
            async with self.database.transaction() as conn:
                await media.save_upload(conn, sender, media_id, provider_id, datetime.now(UTC) + KEPT_FOR)
        return provider_id
