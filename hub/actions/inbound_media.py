"""Verb: take in the files that messages bring: named by ids of ours, and noted to be fetched (rule E10)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hub.domain.inbound_media import FoundFile, name_files
from hub.store import media, media_fetches
from hub.store.media_fetches import FetchDraft
from hub.store.pool import Connection
from providers.base import MessageEdited, MessageReceived


@dataclass(slots=True)
class InboundMedia:
    """The files of one transaction's messages. A file is noted once, whatever the number of channels that get it."""

    _named: dict[str, tuple[dict[str, Any], Sequence[FoundFile]]] = field(default_factory=dict)
    _fetches: list[FetchDraft] = field(default_factory=list)
    _links: list[tuple[UUID, UUID]] = field(default_factory=list)

    def name(self, item: MessageReceived | MessageEdited, sender_id: int, now: datetime) -> dict[str, Any]:
        """The item's content to be stored and shown: files have ids of ours, and nothing tells where the provider has
        them. Content without files is given back as it is.
        """
        if not item.content.get("media"):
            return item.content
        if item.key not in self._named:
            at = datetime.fromtimestamp(item.at, UTC) if item.at is not None else now
            self._named[item.key] = made = name_files(item.key, item.content, at)
            self._fetches += [FetchDraft(file, item.sender.provider, sender_id, now) for file in made[1]]
        return self._named[item.key][0]

    def note(self, item: MessageReceived | MessageEdited, message_id: UUID) -> None:
        """A message of ours holds this item's files; to be called for each channel's."""
        _, files = self._named.get(item.key, ({}, ()))
        self._links += [(message_id, file.id) for file in files]

    async def save(self, conn: Connection) -> None:
        """Write it down, in the transaction that stores the messages; the files are fetched once it is committed."""
        await media_fetches.add_fetches(conn, self._fetches)
        await media.add_links(conn, self._links)
