"""Verbs: connect, disconnect, rotate a secret: who is on a number's channels (rules A2 to A11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions.announce import Place, add_audit, channel_event, service_view
from hub.actions.retained import find_start
from hub.actions.send import cancel_automation
from hub.domain.errors import Conflict, NotFound
from hub.domain.events import OPERATOR_ONLY, Event, EventDraft
from hub.domain.ids import new_id, public_id
from hub.domain.parenthood import next_parent
from hub.domain.policy import Parent
from hub.domain.signing import new_secret
from hub.store import audit, event_log, numbers, replays, subscriptions
from hub.store.pool import Connection, Record
from hub.store.sealing import Sealer
from hub.store.subscriptions import SubscriptionSettings


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


@dataclass(frozen=True, slots=True)
class Connected:
    """The answer to a connect; the secret only where a subscription was created."""

    roster: Roster
    signing_secret: str | None
    events: list[Event]


async def connect(
    conn: Connection,
    sealer: Sealer,
    caller: Caller,
    e164: str,
    wanted: SubscriptionSettings,
    now: datetime,
    *,
    start_at: datetime | None = None,
) -> Connected:
    """Connect a service to a number, or update what it asked for (A2, A3, A10); `start_at` lets a new connection begin
    with the events of that time. Raises `NotFound`, `Conflict` (`already_connected`, `events_expired`).
    """
    number = await _lock_number(conn, e164)
    current = await subscriptions.find_subscription(conn, number["id"], caller.service_id)
    if current:
        if start_at is not None:
            raise Conflict(
                "only a new connection has a start_at; a replay brings older events", code="already_connected"
            )
        await subscriptions.set_subscription(conn, current["id"], wanted)
        roster = await _roster(conn, current["channel_id"], current["kind"], current["parent_epoch"])
        return Connected(roster, None, [])
    channel = await _open_channel(conn, number["id"], caller)
    existing = await subscriptions.list_members(conn, channel["id"])
    is_parent = channel["kind"] == "shared" and not any(row["is_parent"] for row in existing)
    subscription_id, secret = new_id(), new_secret()
    await subscriptions.add_subscription(
        conn, subscription_id, channel["id"], caller.service_id, wanted, is_parent=is_parent
    )
    await subscriptions.add_secret(conn, subscription_id, sealer.seal(secret))
    await subscriptions.add_cursors(conn, subscription_id, await find_start(conn, start_at))
    epoch = await numbers.raise_epoch(conn, channel["id"]) if is_parent else channel["parent_epoch"]
    roster = await _roster(conn, channel["id"], channel["kind"], epoch)
    role = roster.role_of(caller.service_id)
    place = Place(number["id"], e164, roster.channel_id)
    await add_audit(conn, caller.actor, "service.connected", place, role=role, epoch=epoch)
    service = service_view(caller.service_id, caller.name)
    drafts = [channel_event("service.connected", place, now, service=service, role=role)]
    if is_parent:
        drafts.append(_parent_changed(place, roster, now, previous=None, reason="connected"))
    return Connected(roster, secret, await event_log.append(conn, drafts))


async def _lock_number(conn: Connection, e164: str) -> Record:
    number = await numbers.lock_number(conn, e164)
    if number is None:
        raise NotFound("this number is not registered with the hub")
    return number


async def lock_connection(conn: Connection, e164: str, service_id: UUID) -> tuple[Record, Record]:
    """A number, locked, and a service's subscription on it. Raises `NotFound`, `Conflict` (`not_connected`)."""
    number = await _lock_number(conn, e164)
    current = await subscriptions.find_subscription(conn, number["id"], service_id)
    if current is None:
        raise Conflict("this service is not connected to this number", code="not_connected")
    return number, current


async def _open_channel(conn: Connection, number_id: int, caller: Caller) -> Record:
    """The shared channel for an eligible service, else its own (A3), locked."""
    kind, owner = ("shared", None) if caller.is_eligible else ("standalone", caller.service_id)
    await numbers.add_channel(conn, new_id(), number_id, kind, owner)
    channel = await numbers.lock_channel(conn, number_id, kind, owner)
    assert channel is not None
    return channel


async def _roster(conn: Connection, channel_id: UUID, kind: str, epoch: int) -> Roster:
    return Roster(channel_id, kind, epoch, await subscriptions.list_members(conn, channel_id))


@dataclass(frozen=True, slots=True)
class Left:
    """The answer to a disconnect."""

    events: list[Event]


async def disconnect(conn: Connection, service_id: UUID, e164: str, actor: str, now: datetime) -> Left:
    """Take one service off a number; where it was parent, promote the longest-connected other (A4, A5, A7).

    Conversations, history and queued agent replies stay as they are; the old parent's queued automation is cancelled.
    """
    number, current = await lock_connection(conn, e164, service_id)
    channel_id, kind = current["channel_id"], current["kind"]
    channel = await numbers.lock_channel(conn, number["id"], kind, service_id if kind == "standalone" else None)
    assert channel is not None
    before = await subscriptions.list_members(conn, channel_id)
    leaver = next(row for row in before if row["id"] == current["id"])
    await subscriptions.end_subscription(conn, current["id"])
    await replays.forget(conn, current["id"], now)
    epoch = channel["parent_epoch"]
    heir = next_parent(subscriptions.members(before), current["id"]) if leaver["is_parent"] else None
    if heir:
        epoch = await numbers.raise_epoch(conn, channel_id)
        await subscriptions.set_parent(conn, heir.subscription_id)
    roster = await _roster(conn, channel_id, kind, epoch)
    cancelled = await cancel_automation(conn, channel_id, service_id, now) if leaver["is_parent"] else []
    place = Place(number["id"], e164, channel_id)
    await add_audit(conn, actor, "service.disconnected", place, service=public_id("svc", service_id))
    drafts = cancelled + _leaving_drafts(place, roster, leaver, now)
    return Left(await event_log.append(conn, drafts))


def _leaving_drafts(place: Place, roster: Roster, leaver: Record, now: datetime) -> list[EventDraft]:
    service = service_view(leaver["service_id"], leaver["name"])
    drafts = [channel_event("service.disconnected", place, now, service=service)]
    if leaver["is_parent"]:
        drafts.append(_parent_changed(place, roster, now, previous=service, reason="disconnected"))
    if not roster.members and roster.kind == "shared":
        drafts.append(channel_event("channel.unrouted", place, now, audience=OPERATOR_ONLY))
    return drafts


async def find_roster(conn: Connection, e164: str, service_id: UUID) -> tuple[Record, Roster]:
    """The channel a service is on, for one number (A9). Raises `NotFound`, `Conflict` where it is not connected."""
    number = await numbers.find_number(conn, e164)
    if number is None:
        raise NotFound("this number is not registered with the hub")
    current = await subscriptions.find_subscription(conn, number["id"], service_id)
    if current is None:
        raise Conflict("this service is not connected to this number", code="not_connected")
    return number, await _roster(conn, current["channel_id"], current["kind"], current["parent_epoch"])


async def rotate_secret(conn: Connection, sealer: Sealer, service_id: UUID, e164: str, overlap: float) -> str:
    """A new signing secret; the live ones stay valid for `overlap` seconds (G1). Raises as `find_roster`."""
    number, current = await lock_connection(conn, e164, service_id)
    secret = new_secret()
    await subscriptions.expire_secrets(conn, current["id"], overlap)
    await subscriptions.add_secret(conn, current["id"], sealer.seal(secret))
    await audit.add_audit(
        conn, public_id("svc", service_id), "secret.rotated", number_id=number["id"], channel_id=current["channel_id"]
    )
    return secret


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


def connection_view(roster: Roster, service_id: UUID) -> dict[str, Any]:
    """A channel as the API shows it to one of its members, with the state of its own connection (A9). Raises `Conflict`
    (`not_connected`) where the service has left meanwhile.
    """
    own = next((row for row in roster.members if row["service_id"] == service_id), None)
    if own is None:
        raise Conflict("this service is not connected to this number", code="not_connected")
    return {
        "role": roster.role_of(service_id),
        **{name: own[name] for name in ("state", "paused_reason", "paused_at", "on_exhausted")},
        **roster_view(roster),
    }


def _parent_changed(
    place: Place, roster: Roster, now: datetime, *, previous: dict[str, Any] | None, reason: str
) -> EventDraft:
    parent = roster.parent
    view = parent.view() if parent else None
    return channel_event("channel.parent_changed", place, now, parent=view, previous=previous, reason=reason)
