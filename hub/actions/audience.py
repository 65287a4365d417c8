"""Who hears an event, and the exact bytes each of them sees: webhooks, feed and stream alike (rules C1, C2, G5)."""

from dataclasses import dataclass
from time import time
from typing import Any, Final
from uuid import UUID

import orjson

from hub.domain.events import Event, whole
from hub.domain.ids import event_id
from hub.domain.masking import PolicyBook, automation, may_see_content, project_event
from hub.domain.media_links import MediaLinks
from hub.store.pool import Record

_FILE: Final = '"med_'
"""How a file's id begins in an event's data."""
_MARKS: Final = ('"private"', '"warnings"', '"answered_service_id"', _FILE)


@dataclass(frozen=True, slots=True)
class Viewer:
    """A subscription as one that looks."""

    channel_id: UUID
    service_id: UUID
    event_types: frozenset[str] | None
    may_automate: bool
    parent_epoch: int

    def wants(self, event: Event) -> bool:
        """Whether this event is for this subscription at all (G5)."""
        if event.channel_id != self.channel_id:
            return False
        if self.event_types is not None and event.type not in self.event_types:
            return False
        return event.audience is None or self.service_id in event.audience


def viewer_of(row: Record) -> Viewer:
    """The viewer in a row of `list_receivers` or `list_viewers`."""
    return Viewer(
        row["channel_id"],
        row["service_id"],
        frozenset(row["event_types"]) if row["event_types"] is not None else None,
        row["is_parent"] if row["kind"] == "shared" else row["standalone_may_automate"],
        row["parent_epoch"],
    )


def body(event: Event, viewer: Viewer, policies: PolicyBook, links: MediaLinks | None = None) -> bytes:
    """The exact bytes for one viewer; rendered once for all who see the same. Addresses of files are made with `links`,
    for each viewer its own.
    """
    is_full = may_see_content(
        policies, viewer.channel_id, viewer.service_id, event.author_service_id, event.written_at or event.at
    )
    key = (is_full, viewer.may_automate, viewer.parent_epoch, _insider(event, viewer.service_id))
    found = event.views.get(key)
    if found is None:
        found = event.views[key] = _render(event, viewer, links, is_full=is_full)
    return found


def _insider(event: Event, service_id: UUID) -> UUID | None:
    """The service, where an event may hold what is for it alone; None where it sees what all strangers see. A text that
    merely looks like it costs a rendering, no more.
    """
    if event.differs is None:  # asked for every delivery, looked for once
        event.differs = any(mark in event.data for mark in _MARKS)
    if event.differs:
        return service_id
    if event.author_service_id == service_id or not event.type.startswith("message."):
        return service_id  # the author alone is told its agent's id
    return service_id if event.picked_up_by is not None and service_id.hex in event.picked_up_by else None


def _render(event: Event, viewer: Viewer, links: MediaLinks | None, *, is_full: bool) -> bytes:
    data = {"event_id": event_id(event.id), **whole(event)}
    view: dict[str, Any] = project_event(data, viewer=viewer.service_id, is_full=is_full)
    if links and _FILE in event.data and "message" in view:
        view["message"] = links.with_urls(view["message"], viewer.service_id, time())
    if "channel_id" in data:
        view["automation"] = automation(data, may_automate=viewer.may_automate, epoch=viewer.parent_epoch)
    return orjson.dumps({"type": event.type, "timestamp": event.at, "data": view}, option=orjson.OPT_UTC_Z)
