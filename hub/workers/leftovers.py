"""Claims that nobody works on any more, settled as far as they can be (rule E8); a part of the sender."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog

from hub.actions.record_send import abandon
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.store import outbox
from hub.store.pool import Connection, Database, Record

log = structlog.get_logger()

ORPHANED: Final = 60.0
"""Seconds after which a claim of somebody who owns nothing any more is taken for abandoned."""


@dataclass(slots=True)
class Leftovers:
    """Of one sender, by its id; `called` are the messages it has handed to providers and not settled yet."""

    database: Database
    owner: UUID
    publish: Callable[[Sequence[Event]], None]
    called: set[UUID] = field(default_factory=set)
    _next_search: float = 0.0

    async def settle_lost(self, flying: Collection[UUID]) -> None:
        """Messages that are claimed here and that nobody works on: the answer to the claim's commit was lost, so
        nothing was sent and they go back; or the record failed after the call, so the outcome is unknown (E8).
        """
        async with self.database.reading() as conn:
            claimed = await outbox.list_claimed(conn, self.owner)
        for row in claimed:
            message_id = row["message_id"]
            if message_id in flying:
                continue
            async with self.database.transaction() as conn:  # changes nothing of what a flight has settled since
                events = await self._settle(conn, row)
            self.called.discard(message_id)
            self.publish(events)

    async def _settle(self, conn: Connection, row: Record) -> list[Event]:
        message_id = row["message_id"]
        log.warning("send.lost", message=public_id("msg", message_id), was_called=message_id in self.called)
        if message_id in self.called:
            return await abandon(conn, message_id, row["conversation_id"], row["attempts"], datetime.now(UTC))
        await outbox.give_back(conn, message_id, row["attempts"], self.owner)
        return []

    async def settle_late(self, now: float) -> None:
        """What somebody claimed who did not know yet that they own nothing any more, and who was ended then."""
        if now >= self._next_search:
            self._next_search = now + ORPHANED / 2
            await self.settle_abandoned(ORPHANED)

    async def settle_abandoned(self, seconds: float) -> None:
        """What other senders claimed so long ago: nobody but they could tell. What is claimed here is known here."""
        async with self.database.reading() as conn:
            abandoned = await outbox.list_abandoned(conn, self.owner, seconds)
        for row in abandoned:
            async with self.database.transaction() as conn:
                events = await abandon(
                    conn, row["message_id"], row["conversation_id"], row["attempts"], datetime.now(UTC)
                )
            self.publish(events)
            log.warning("send.abandoned", message=public_id("msg", row["message_id"]))
