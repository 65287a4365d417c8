"""Who hears an event, and the exact bytes each of them sees: webhooks, feed and stream alike (rules C1, C2, G5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from hub.domain.events import Event, whole
from hub.domain.ids import event_id
from hub.domain.masking import Sharing, may_see_content, project_event
from hub.store import subscriptions
from hub.store.pool import Connection, Record

SharingBook = Mapping[tuple[UUID, UUID], Sharing]
"""What each author shares with others, by channel and author (C2)."""
_NOTHING = Sharing()


@dataclass(frozen=True, slots=True)
class Viewer:
    """A subscription as one that looks."""

    channel_id: UUID
    service_id: UUID
    event_types: frozenset[str] | None
    display: str
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
        row["display"],
        row["is_parent"] and row["kind"] == "shared",
        row["parent_epoch"],
    )


def body(event: Event, viewer: Viewer, sharing: SharingBook) -> bytes:
    """The exact bytes for one viewer; rendered once for all who see the same."""
    author = event.author_service_id
    shared = sharing.get((viewer.channel_id, author), _NOTHING) if author else _NOTHING
    is_full = may_see_content(viewer.service_id, viewer.display, author, shared)
    # An answer to somebody's buttons looks different to their author: no body in common then.
    alone = viewer.service_id if "answered_service_id" in event.data else None
    key = (is_full, viewer.may_automate, viewer.parent_epoch, alone)
    found = event.views.get(key)
    if found is None:
        found = event.views[key] = _render(event, viewer, is_full=is_full)
    return found


def _render(event: Event, viewer: Viewer, *, is_full: bool) -> bytes:
    view: dict[str, Any] = project_event(
        whole(event),
        event_id=event_id(event.id),
        viewer=viewer.service_id,
        is_full=is_full,
        may_automate=viewer.may_automate,
        epoch=viewer.parent_epoch,
    )
    return orjson.dumps({"type": event.type, "timestamp": event.at, "data": view}, option=orjson.OPT_UTC_Z)


async def load_sharing(conn: Connection) -> dict[tuple[UUID, UUID], Sharing]:
    """What every author of every channel shares now."""
    return {
        (row["channel_id"], row["service_id"]): Sharing(row["share"], frozenset(row["share_with"]))
        for row in await subscriptions.list_sharing(conn)
    }
