"""Verb: the operator hands parenthood over, and nobody leaves (rule A6)."""

from datetime import datetime
from uuid import UUID

from hub.actions.announce import Place, service_view
from hub.actions.cancel import cancel_automation
from hub.actions.register import OPERATOR
from hub.actions.roster import Roster, lock_number, read_roster, tell_parent
from hub.domain.errors import NotFound
from hub.domain.events import Event, EventDraft
from hub.domain.parenthood import check_heir
from hub.store import contacts, conversations, event_log, numbers, outbox, services, subscriptions
from hub.store.pool import Connection, Record


async def hand_over(
    conn: Connection, e164: str, service_id: UUID, note: str | None, now: datetime
) -> tuple[Roster, list[Event]]:
    """Make a subscriber the parent, at another epoch; the old one stays as subscriber with its rank, and its waiting
    automation is cancelled (A6). Who is parent already stays it, and nothing changes.

    Raises `NotFound`, `Conflict` (`not_connected`, `standalone_channel`).
    """
    if await services.find_service(conn, service_id) is None:
        raise NotFound("There is no such service, or it was removed (rule A6): name one of the subscribers.")
    number = await lock_number(conn, e164)
    current = await subscriptions.find_subscription(conn, number["id"], service_id)
    refusal = check_heir(current["kind"] if current else None)
    if refusal:
        raise refusal
    assert current is not None
    channel = await numbers.lock_channel(conn, number["id"], "shared", None)
    assert channel is not None
    before = await read_roster(conn, channel["id"], "shared", channel["parent_epoch"])
    if current["is_parent"]:
        return before, []
    return await _change(conn, number, before, current, note, now)


async def _change(
    conn: Connection, number: Record, before: Roster, heir: Record, note: str | None, now: datetime
) -> tuple[Roster, list[Event]]:
    channel_id, old = before.channel_id, before.parent
    drafts = await _stop(conn, channel_id, old.service_id, now) if old else []
    await subscriptions.unset_parent(conn, channel_id)
    await subscriptions.set_parent(conn, heir["id"])
    epoch = await numbers.raise_epoch(conn, channel_id)
    roster = await read_roster(conn, channel_id, "shared", epoch)
    place = Place(number["id"], number["e164"], channel_id)
    previous = service_view(old.service_id, old.name) if old else None
    told = await tell_parent(conn, OPERATOR, place, roster, now, previous=previous, reason="handed_over", note=note)
    return roster, await event_log.append(conn, [*drafts, told])


async def _stop(conn: Connection, channel_id: UUID, service_id: UUID, now: datetime) -> list[EventDraft]:
    """Cancel the automation of who is parent no longer; its pick-ups stay, for its agents do."""
    states = await conversations.lock(conn, await outbox.list_automation_conversations(conn, channel_id, service_id))
    people = await contacts.list_contacts(conn, {state.contact_id for state in states.values()})
    drafts = await cancel_automation(conn, channel_id, service_id, states, people, now)
    await conversations.save(conn, list(states.values()))
    return drafts
