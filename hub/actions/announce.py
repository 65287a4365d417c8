"""Telling of changes to a channel: an event to all its services, and an audit row (rule A8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from hub.domain.events import EventDraft
from hub.domain.ids import public_id
from hub.store import audit
from hub.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Place:
    """A channel over a number."""

    number_id: int
    e164: str
    channel_id: UUID


def channel_event(
    kind: str, place: Place, now: datetime, *, audience: Sequence[UUID] | None = None, **data: Any
) -> EventDraft:
    """An event about a channel and who is on it."""
    return EventDraft(
        type=kind,
        lane=place.channel_id,
        at=now,
        number_id=place.number_id,
        channel_id=place.channel_id,
        audience=audience,
        data={"number": place.e164, "channel_id": public_id("chn", place.channel_id), **data},
    )


async def add_audit(conn: Connection, actor: str, action: str, place: Place, **details: Any) -> None:
    """Write down who did what on a channel (A8)."""
    await audit.add_audit(
        conn,
        actor,
        action,
        number_id=place.number_id,
        channel_id=place.channel_id,
        subject=place.e164,
        details=orjson.dumps(details).decode(),
    )


def service_view(service_id: UUID, name: str) -> dict[str, Any]:
    """A service as roster events name it."""
    return {"id": public_id("svc", service_id), "name": name}
