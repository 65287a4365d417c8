"""Files of messages that are about to be sent: uploaded to the provider once, or given as an address it may fetch
(rule E10).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from hub.domain.errors import Unavailable
from hub.domain.ids import parse_id
from hub.domain.media_links import PREFIX, MediaLinks
from hub.store import media
from hub.store.blobs import BlobMissing, BlobTrouble
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


_FRESH: Final = timedelta(minutes=1)
"""An id that the provider gave so recently it has not forgotten: whatever is wrong is not that."""
_FORGOTTEN: Final = frozenset({"100", "131009", "131052", "131053"})
"""Meta's codes of a refusal, where it has no file of this id (any more), among other things."""

_Sender = tuple[str, str, str]
"""Provider, medium and external id."""


@dataclass(frozen=True, slots=True)
class MediaDesk:
    """Turns the files a message names into what its provider takes. Messages that need the same upload at the same time
    share it.
    """

    database: Database
    providers: Mapping[str, Provider]
    files: Files
    links: MediaLinks
    _uploading: dict[tuple[_Sender, UUID], "asyncio.Task[str]"] = field(default_factory=dict)

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
            if row is None or row["state"] != "kept":
                raise _lost()
            made.append(await self._own(sender, row, file, uploads.get(media_id)))
        return replace(message, media=made)

    async def review(self, provider: str, message: OutboundMessage, outcome: Refused) -> SendError:
        """What a refusal comes to: where the provider may have forgotten a file it was given earlier, the message was
        not taken, and is tried again with a new upload. Raises nothing.
        """
        ids = {file.provider_id for file in message.media if file.provider_id}
        if not ids or outcome.provider_code not in _FORGOTTEN:
            return outcome
        sender, before = (provider, message.medium, message.sender), datetime.now(UTC) + KEPT_FOR - _FRESH
        try:
            async with self.database.transaction() as conn:
                was_forgotten = await media.forget_uploads(conn, sender, ids, before)
        except (Unavailable, TryAgain):
            return outcome
        if not was_forgotten:
            return outcome
        log.info("media.upload_forgotten", provider=provider)
        return NotTaken("media_forgotten", outcome.detail, provider_code=outcome.provider_code)

    async def _own(self, sender: _Sender, row: Record, file: Mapping[str, Any], known: str | None) -> OutboundMedia:
        """A file of the hub's, as the provider takes it."""
        name, mime_type = file.get("filename") or row["filename"], row["mime_type"]
        adapter = self.providers.get(sender[0])
        can = next((can for medium, can in adapter.supports.items() if medium == sender[1]), ()) if adapter else ()
        if adapter is None or "upload" not in can:
            if not await self._is_there(row["sha256"]):
                raise _lost()
            url = self.links.url(row["id"], datetime.now(UTC).timestamp())
            return OutboundMedia(url, None, mime_type, name)
        provider_id = known or await self._upload_once(adapter, sender, row["id"], row["sha256"], mime_type, name)
        return OutboundMedia(None, provider_id, mime_type, name)

    async def _is_there(self, sha256: bytes) -> bool:
        try:
            return await self.files.blobs.exists(sha256)
        except OSError as error:
            raise NotTaken("internal", "the hub cannot reach its files just now") from error

    async def _upload_once(
        self, adapter: Provider, sender: _Sender, media_id: UUID, sha256: bytes, mime_type: str, name: str
    ) -> str:
        """Join the upload that is under way, or begin it; whoever is cancelled leaves it to the others."""
        key = sender, media_id
        task = self._uploading.get(key)
        if task is None:
            task = asyncio.create_task(self._upload(adapter, sender, media_id, sha256, mime_type, name))
            self._uploading[key] = task
            task.add_done_callback(lambda done: self._uploaded(key, done))
        return await asyncio.shield(task)

    def _uploaded(self, key: tuple[_Sender, UUID], task: "asyncio.Task[str]") -> None:
        self._uploading.pop(key, None)
        if not task.cancelled():
            task.exception()  # those who wait are told; nobody may be left

    async def _upload(
        self, adapter: Provider, sender: _Sender, media_id: UUID, sha256: bytes, mime_type: str, name: str
    ) -> str:
        try:
            async with self.files.blobs.as_path(sha256) as path:
                provider_id = await adapter.upload(Upload(sender[2], path, mime_type, name))
        except BlobMissing as error:
            raise _lost() from error
        except BlobTrouble as error:
            raise NotTaken("internal", "the hub cannot reach its files just now") from error
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


def _lost() -> Refused:
    return Refused("media_unavailable", "the file is no longer kept by the hub")
