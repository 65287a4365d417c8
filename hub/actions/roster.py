"""Who is on a number's channels, and how that is shown (rules A2 to A11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions.announce import Place, add_audit, channel_event
from hub.domain.errors import Conflict, NotFound
from hub.domain.events import EventDraft
from hub.domain.ids import public_id
from hub.domain.policy import Parent
from hub.store import numbers, subscriptions
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class Caller:
    """The service that asks."""

    service_id: UUID
    name: str
    scopes: frozenset[str]
    is_eligible: bool

    @property
    def actor(self) -> str:
        """As the audit trail names it."""
        return public_id("svc", self.service_id)


@dataclass(frozen=True, slots=True)
class Roster:
    """A channel as its members see it (A9)."""

    channel_id: UUID
    kind: str
    epoch: int
    members: Sequence[Record]

    @property
    def parent(self) -> Parent | None:
        """Who may automate."""
        return subscriptions.parent_of(self.members, self.epoch)

    def role_of(self, service_id: UUID) -> str:
        """`parent`, `subscriber` or `standalone`."""
        if self.kind == "standalone":
            return "standalone"
        parent = self.parent
        return "parent" if parent and parent.service_id == service_id else "subscriber"


async def read_roster(conn: Connection, channel_id: UUID, kind: str, epoch: int) -> Roster:
    """A channel's roster, as it is within this transaction."""
    return Roster(channel_id, kind, epoch, await subscriptions.list_members(conn, channel_id))


# Finding ------------------------------------------------------------------------------------------------------------


async def find_number(conn: Connection, e164: str) -> Record:
    """A registered number. Raises `NotFound`."""
    return _known(await numbers.find_number(conn, e164))


async def lock_number(conn: Connection, e164: str) -> Record:
    """The same, locked. Raises `NotFound`."""
    return _known(await numbers.lock_number(conn, e164))


def _known(number: Record | None) -> Record:
    if number is None:
        raise NotFound(
            "This number is not registered with the hub (rule A1): check it, or have the operator register it."
        )
    return number


async def lock_connection(conn: Connection, e164: str, service_id: UUID) -> tuple[Record, Record]:
    """A number, locked, and a service's subscription on it. Raises `NotFound`, `Conflict` (`not_connected`)."""
    number = await lock_number(conn, e164)
    return number, _current(await subscriptions.find_subscription(conn, number["id"], service_id))


async def find_roster(conn: Connection, e164: str, service_id: UUID) -> tuple[Record, Roster]:
    """The channel a service is on, for one number (A9). Raises `NotFound`, `Conflict` where it is not connected."""
    number = await find_number(conn, e164)
    current = _current(await subscriptions.find_subscription(conn, number["id"], service_id))
    return number, await read_roster(conn, current["channel_id"], current["kind"], current["parent_epoch"])


def _current(subscription: Record | None) -> Record:
    if subscription is None:
        raise Conflict(
            "This service is not connected to this number (rule A4): connect it first, with"
            " PUT /v1/numbers/{e164}/connection.",
            code="not_connected",
        )
    return subscription


# Telling ------------------------------------------------------------------------------------------------------------


async def tell_parent(
    conn: Connection,
    actor: str,
    place: Place,
    roster: Roster,
    now: datetime,
    *,
    previous: dict[str, Any] | None,
    reason: str,
    **more: Any,
) -> EventDraft:
    """Write down that parenthood is as in this roster now, and why; gives the event that says so (A5, A6, A8)."""
    view = roster.parent.view() if roster.parent else None
    await add_audit(
        conn, actor, "channel.parent_changed", place, parent=view and view["service_id"],
        previous=previous and previous["id"], epoch=roster.epoch, reason=reason, **more,
    )  # fmt: skip
    return channel_event("channel.parent_changed", place, now, parent=view, previous=previous, reason=reason, **more)


# Showing ------------------------------------------------------------------------------------------------------------


def roster_view(roster: Roster) -> dict[str, Any]:
    """Parent and subscribers as the API shows them (A9)."""
    parent = roster.parent
    return {
        "channel_id": public_id("chn", roster.channel_id),
        "kind": roster.kind,
        "parent": parent.view() if parent else None,
        "parent_epoch": roster.epoch,
        "subscribers": [
            {
                "service_id": public_id("svc", row["service_id"]),
                "name": row["name"],
                "role": roster.role_of(row["service_id"]),
                "state": row["state"],
                "connected_at": row["connected_at"],
            }
            for row in roster.members
        ],
    }


def settings_view(row: Record) -> dict[str, Any]:
    """What a member asked for when it connected: for itself and the operator. `share` is as asked, null for the
    channel's default, `effective_share` what holds (C2).
    """
    named = [public_id("svc", service_id) for service_id in row["share_with"]]
    return {
        "endpoint_url": row["endpoint_url"],
        "event_types": row["event_types"],
        "display": row["display"],
        "share": named if row["share"] == "named" else row["share"],
        "effective_share": named if row["effective_share"] == "named" else row["effective_share"],
        "on_exhausted": row["on_exhausted"],
    }


def connection_view(roster: Roster, service_id: UUID) -> dict[str, Any]:
    """A channel as the API shows it to one of its members, with its own connection (A9). Raises `Conflict`
    (`not_connected`) where the service has left meanwhile.
    """
    own = _current(next((row for row in roster.members if row["service_id"] == service_id), None))
    return {
        "role": roster.role_of(service_id),
        **{name: own[name] for name in ("state", "paused_reason", "paused_at")},
        **settings_view(own),
        **roster_view(roster),
    }
