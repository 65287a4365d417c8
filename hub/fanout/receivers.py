"""Who hears events, as the dispatcher needs to know it; and what of an event each may see."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import orjson
import structlog

from hub.domain.events import Event, whole
from hub.domain.ids import event_id, public_id
from hub.domain.masking import Sharing, may_see_content, project_event
from hub.domain.signing import secret_key
from hub.store import subscriptions
from hub.store.pool import Connection
from hub.store.sealing import KeyProblem, Sealer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Receiver:
    """One subscription that webhooks go to; `age` is in seconds since it connected, when it was read."""

    id: UUID
    channel_id: UUID
    service_id: UUID
    endpoint_url: str
    event_types: frozenset[str] | None
    display: str
    may_automate: bool
    parent_epoch: int
    keys: tuple[bytes, ...]
    age: float

    def wants(self, event: Event) -> bool:
        """Whether this event is for this subscription at all (G5)."""
        if event.channel_id != self.channel_id:
            return False
        if self.event_types is not None and event.type not in self.event_types:
            return False
        return event.audience is None or self.service_id in event.audience


@dataclass(frozen=True, slots=True)
class Roster:
    """All receivers, and what each author shares with others (C2)."""

    receivers: Mapping[UUID, Receiver]
    sharing: Mapping[tuple[UUID, UUID], Sharing]

    def body(self, event: Event, receiver: Receiver) -> bytes:
        """The exact bytes for one receiver; rendered once for all who see the same."""
        author = event.author_service_id
        sharing = self.sharing.get((receiver.channel_id, author), Sharing()) if author else Sharing()
        is_full = may_see_content(receiver.service_id, receiver.display, author, sharing)
        # An answer to somebody's buttons looks different to their author: no body in common then.
        viewer = receiver.service_id if "answered_service_id" in event.data else None
        key = (is_full, receiver.may_automate, receiver.parent_epoch, viewer)
        body = event.views.get(key)
        if body is None:
            body = event.views[key] = _render(event, receiver, is_full=is_full)
        return body


def _render(event: Event, receiver: Receiver, *, is_full: bool) -> bytes:
    view = project_event(
        whole(event),
        event_id=event_id(event.id),
        viewer=receiver.service_id,
        is_full=is_full,
        may_automate=receiver.may_automate,
        epoch=receiver.parent_epoch,
    )
    return orjson.dumps({"type": event.type, "timestamp": event.at, "data": view}, option=orjson.OPT_UTC_Z)


async def load_roster(conn: Connection, sealer: Sealer) -> Roster:
    """Read who hears what now."""
    receivers = {}
    for row in await subscriptions.list_receivers(conn):
        try:
            keys = tuple(secret_key(sealer.open(bytes(secret))) for secret in row["secrets"] or ())
        except KeyProblem:
            # One secret that no key opens must not stop everybody's deliveries; this one waits for its key.
            log.exception("subscription.secret_unreadable", subscription=public_id("sub", row["id"]))
            continue
        receivers[row["id"]] = Receiver(
            row["id"],
            row["channel_id"],
            row["service_id"],
            row["endpoint_url"],
            frozenset(row["event_types"]) if row["event_types"] is not None else None,
            row["display"],
            row["is_parent"] and row["kind"] == "shared",
            row["parent_epoch"],
            keys,
            row["age"],
        )
    sharing = {
        (row["channel_id"], row["service_id"]): Sharing(row["share"], frozenset(row["share_with"]))
        for row in await subscriptions.list_sharing(conn)
    }
    return Roster(receivers, sharing)
