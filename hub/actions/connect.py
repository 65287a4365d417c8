"""Verbs: connect a service to a number, change what it asked for, rotate its secret (rules A2, A3, A10, C2, G1)."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.actions.announce import Place, add_audit, channel_event, service_view
from hub.actions.retained import find_start
from hub.actions.roster import Caller, Roster, lock_connection, lock_number, read_roster, tell_parent
from hub.domain.errors import Conflict, Unauthorized
from hub.domain.events import Event
from hub.domain.ids import new_id, public_id
from hub.domain.signing import new_secret
from hub.store import audit, event_log, numbers, services, subscriptions, visibility
from hub.store.pool import Connection, Record
from hub.store.sealing import Sealer
from hub.store.subscriptions import SubscriptionSettings


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
    with the events of that time. Raises `NotFound`, `Conflict` (`already_connected`, `events_expired`), `Unauthorized`
    where the service was removed meanwhile.
    """
    if not await services.share_service(conn, caller.service_id):
        raise Unauthorized("this service was removed by the operator, and its keys are no longer valid (rule A5)")
    number = await lock_number(conn, e164)
    current = await subscriptions.find_subscription(conn, number["id"], caller.service_id)
    if current is None:
        return await _add(conn, sealer, caller, number, wanted, now, start_at)
    if start_at is not None:
        raise Conflict(
            "Only a new connection has a start_at (rule A10): leave it out, and let a replay bring older events.",
            code="already_connected",
        )
    return await _update(conn, current, wanted, now)


async def _update(conn: Connection, current: Record, wanted: SubscriptionSettings, now: datetime) -> Connected:
    await subscriptions.set_subscription(conn, current["id"], wanted)
    shares = wanted.share or current["default_share"]
    before = (current["display"], current["share"] or current["default_share"], set(current["share_with"]))
    if before != (wanted.display, shares, set(wanted.share_with)):
        await visibility.add_visibility(
            conn, current["channel_id"], current["service_id"], wanted.display, shares, wanted.share_with, now
        )
    roster = await read_roster(conn, current["channel_id"], current["kind"], current["parent_epoch"])
    return Connected(roster, None, [])


async def _add(
    conn: Connection,
    sealer: Sealer,
    caller: Caller,
    number: Record,
    wanted: SubscriptionSettings,
    now: datetime,
    start_at: datetime | None,
) -> Connected:
    """The first of a shared channel without a parent becomes it: another epoch (A2, A7)."""
    channel = await _open_channel(conn, number["id"], caller)
    existing = await subscriptions.list_members(conn, channel["id"])
    is_parent = channel["kind"] == "shared" and not any(row["is_parent"] for row in existing)
    subscription_id, secret = new_id(), new_secret()
    await subscriptions.add_subscription(
        conn, subscription_id, channel["id"], caller.service_id, wanted, is_parent=is_parent
    )
    await visibility.add_visibility(
        conn, channel["id"], caller.service_id, wanted.display, wanted.share or channel["default_share"],
        wanted.share_with, now,
    )  # fmt: skip
    await subscriptions.add_secret(conn, subscription_id, sealer.seal(secret))
    await subscriptions.add_cursors(conn, subscription_id, await find_start(conn, start_at))
    epoch = await numbers.raise_epoch(conn, channel["id"]) if is_parent else channel["parent_epoch"]
    roster = await read_roster(conn, channel["id"], channel["kind"], epoch)
    place = Place(number["id"], number["e164"], roster.channel_id)
    events = await _tell(conn, caller, place, roster, now, is_parent=is_parent)
    return Connected(roster, secret, events)


async def _open_channel(conn: Connection, number_id: int, caller: Caller) -> Record:
    """The shared channel for an eligible service, else its own (A3), locked.

    It is made only where there is none: making one, or trying to, locks the roster's version, and nothing of what comes
    before that in the order of locks may be waited for afterwards.
    """
    kind, owner = ("shared", None) if caller.is_eligible else ("standalone", caller.service_id)
    channel = await numbers.lock_channel(conn, number_id, kind, owner)
    if channel is None:
        await numbers.add_channel(conn, new_id(), number_id, kind, owner)
        channel = await numbers.lock_channel(conn, number_id, kind, owner)
        assert channel is not None
    return channel


async def _tell(
    conn: Connection, caller: Caller, place: Place, roster: Roster, now: datetime, *, is_parent: bool
) -> list[Event]:
    role = roster.role_of(caller.service_id)
    await add_audit(conn, caller.actor, "service.connected", place, role=role, epoch=roster.epoch)
    service = service_view(caller.service_id, caller.name)
    drafts = [channel_event("service.connected", place, now, service=service, role=role)]
    if is_parent:
        drafts.append(await tell_parent(conn, caller.actor, place, roster, now, previous=None, reason="connected"))
    return await event_log.append(conn, drafts)


async def rotate_secret(conn: Connection, sealer: Sealer, service_id: UUID, e164: str, overlap: float) -> str:
    """A new signing secret; the live ones stay valid for `overlap` seconds (G1). Raises as `lock_connection`."""
    number, current = await lock_connection(conn, e164, service_id)
    secret = new_secret()
    await subscriptions.expire_secrets(conn, current["id"], overlap)
    await subscriptions.add_secret(conn, current["id"], sealer.seal(secret))
    await audit.add_audit(
        conn, public_id("svc", service_id), "secret.rotated", number_id=number["id"], channel_id=current["channel_id"]
    )
    return secret
