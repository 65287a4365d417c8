"""Verb: let a subscription go on without events that the log drops, and tell it (rules A8, H6)."""

from datetime import datetime
from uuid import UUID

from hub.actions.announce import Place, add_audit, channel_event, service_view
from hub.actions.pausing import HUB
from hub.domain.events import Event
from hub.domain.ids import event_id
from hub.store import event_log, retention, subscriptions
from hub.store.pool import Connection


async def expire(conn: Connection, subscription_id: UUID, upto: int, now: datetime) -> list[Event]:
    """Move a subscription that nothing is posted to behind this id. One that is paused, and loses events by that, is
    told so. One that is delivered to by now, or has ended, stays as it is.
    """
    state = await retention.lock_laggard(conn, subscription_id)
    if state is None:
        return []
    lost = await retention.find_lost(conn, subscription_id, upto) if state == "paused" else None
    await retention.move_up(conn, subscription_id, upto)
    if lost is None:
        return []
    after = await retention.note_expired(conn, subscription_id, lost, upto)
    return await _tell(conn, subscription_id, after, upto, now)


async def _tell(conn: Connection, subscription_id: UUID, after: int, upto: int, now: datetime) -> list[Event]:
    home = await subscriptions.find_home(conn, subscription_id)
    assert home is not None
    place = Place(home["number_id"], home["e164"], home["channel_id"])
    service = service_view(home["service_id"], home["name"])
    bounds = {"after_event_id": event_id(after), "upto_event_id": event_id(upto)}
    await add_audit(conn, HUB, "subscription.expired", place, service=service["id"], **bounds)
    draft = channel_event("subscription.expired", place, now, audience=[home["service_id"]], service=service, **bounds)
    return await event_log.append(conn, [draft])
