"""Verbs: pause and resume a service's deliveries; rank and parenthood stay as they are (rules A5, A8)."""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from hub.actions.announce import Place, add_audit, channel_event, service_view
from hub.actions.register import OPERATOR
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.store import delivery_health, event_log, numbers, subscriptions
from hub.store.pool import Connection, Record

HUB: Final = "hub"
"""The actor of what the hub does by itself."""

Reason = Literal["asked", "operator", "gone", "failing"]
"""Why: the service asked, the operator did, its endpoint answered 410, or it did nothing but fail for days."""
Mode = Literal["continue", "skip"]
"""How to go on: with all that waited, or with what comes from now on."""


async def pause(conn: Connection, subscription_id: UUID, reason: Reason, now: datetime) -> list[Event]:
    """Deliver nothing more to a subscription until it is resumed. One that is paused, or has ended, stays as it is."""
    home = await _lock_home(conn, subscription_id)
    if home is None or home["state"] == "paused":
        return []
    await subscriptions.pause(conn, subscription_id, reason, now)
    actor = {"asked": public_id("svc", home["service_id"]), "operator": OPERATOR}.get(reason, HUB)
    return await _tell(conn, "service.paused", home, actor, now, reason=reason)


async def resume(conn: Connection, subscription_id: UUID, mode: Mode, actor: str, now: datetime) -> list[Event]:
    """Deliver again; with `skip`, nothing of what waited, and no parked lane. One that is active stays as it is."""
    home = await _lock_home(conn, subscription_id)
    if home is None or home["state"] == "active":
        return []
    await subscriptions.resume(conn, subscription_id)
    await delivery_health.reset_failing(conn, subscription_id)
    if mode == "skip":
        await subscriptions.skip(conn, subscription_id, await event_log.find_heads(conn))
    return await _tell(conn, "service.resumed", home, actor, now, mode=mode)


async def _lock_home(conn: Connection, subscription_id: UUID) -> Record | None:
    """The subscription as it is once its number and its channel are locked; None where it has ended."""
    home = await subscriptions.find_home(conn, subscription_id)
    if home is None:
        return None
    await numbers.lock_number(conn, home["e164"])
    await numbers.lock_channel(conn, home["number_id"], home["kind"], home["owner_service_id"])
    return await subscriptions.find_home(conn, subscription_id)


async def _tell(conn: Connection, kind: str, home: Record, actor: str, now: datetime, **data: Any) -> list[Event]:
    place = Place(home["number_id"], home["e164"], home["channel_id"])
    service = service_view(home["service_id"], home["name"])
    await add_audit(conn, actor, kind, place, service=service["id"], **data)
    return await event_log.append(conn, [channel_event(kind, place, now, service=service, **data)])
