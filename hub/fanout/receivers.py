"""Where webhooks go: every subscription with an endpoint, as the dispatcher needs to know it."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import structlog

from hub.actions.audience import Viewer, body, viewer_of
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.domain.masking import PolicyBook
from hub.domain.media_links import MediaLinks
from hub.domain.signing import secret_key
from hub.store import subscriptions, visibility
from hub.store.pool import Connection
from hub.store.sealing import KeyProblem, Sealer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Receiver:
    """One subscription that webhooks go to; `age` is in seconds since it connected, when it was read."""

    id: UUID
    viewer: Viewer
    endpoint_url: str
    keys: tuple[bytes, ...]
    age: float
    run: int
    holds: bool
    """Whether a lane stops at an event it gave up, instead of going on with a gap (G3)."""


@dataclass(frozen=True, slots=True)
class Roster:
    """All receivers, and what each service of a channel asked to see and shared since when (C2)."""

    receivers: Mapping[UUID, Receiver]
    policies: PolicyBook
    links: MediaLinks | None = None

    def body(self, event: Event, receiver: Receiver) -> bytes:
        """The exact bytes for one receiver."""
        return body(event, receiver.viewer, self.policies, self.links)


async def load_roster(conn: Connection, sealer: Sealer, links: MediaLinks | None = None) -> Roster:
    """Read who hears what now; `links` makes addresses of files for them."""
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
            viewer_of(row),
            row["endpoint_url"],
            keys,
            row["age"],
            row["run"],
            row["on_exhausted"] == "hold",
        )
    return Roster(receivers, await visibility.read_policies(conn), links)
