"""Verbs of the operator: look at what services wrote, masked; or in full, which the audit trail tells of (rule C2)."""

from collections.abc import Sequence
from time import time
from typing import Any
from uuid import UUID

import orjson

from hub.actions.look import describe_messages
from hub.actions.register import OPERATOR
from hub.actions.show_files import show_files
from hub.domain.events import Event, whole
from hub.domain.ids import event_id, public_id
from hub.domain.masking import project_event, reveal_event
from hub.domain.media_links import MediaLinks
from hub.store import audit
from hub.store.pool import Connection, Record


def mask_event(event: Event, links: MediaLinks | None = None) -> dict[str, Any]:
    """An event's data as the operator sees it without asking: as a service that nobody shares with."""
    is_full = event.author_service_id is None
    return _with_urls(_name(event, project_event(whole(event), viewer=None, is_full=is_full)), links)


async def reveal_events(
    conn: Connection, events: Sequence[Event], reason: str, links: MediaLinks
) -> list[dict[str, Any]]:
    """The data of these events in full. One audit row for each channel, naming the events of which it showed more than
    the operator sees anyway.
    """
    views = [_name(event, reveal_event(whole(event))) for event in events]
    shown: dict[UUID, list[str]] = {}
    for event, view in zip(events, views, strict=True):
        if event.channel_id and view != mask_event(event):
            shown.setdefault(event.channel_id, []).append(event_id(event.id))
    for channel_id, ids in shown.items():
        await _note(conn, "events.revealed", channel_id, public_id("chn", channel_id), reason=reason, events=ids)
    return [_with_urls(view, links) for view in views]


async def reveal_message(conn: Connection, row: Record, reason: str, links: MediaLinks) -> dict[str, Any]:
    """A message in full, whoever wrote it."""
    (view,) = await show_files(conn, links, None, await describe_messages(conn, [row]), time())
    await _note(conn, "message.revealed", row["channel_id"], view["id"], reason=reason, author=view["author"])
    return view


def _with_urls(view: dict[str, Any], links: MediaLinks | None) -> dict[str, Any]:
    if links is None or not isinstance(view.get("message"), dict):
        return view
    return {**view, "message": links.with_urls(view["message"], None, time())}


def _name(event: Event, data: dict[str, Any]) -> dict[str, Any]:
    return {"event_id": event_id(event.id), **data}


async def _note(conn: Connection, action: str, channel_id: UUID, subject: str, **details: Any) -> None:
    text = orjson.dumps(details).decode()
    await audit.add_audit(conn, OPERATOR, action, channel_id=channel_id, subject=subject, details=text)
