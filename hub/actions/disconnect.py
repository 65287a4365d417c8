"""Verb: a service leaves numbers, by itself or because the operator removes it (rules A4, A5, A7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.actions.announce import Place, add_audit, channel_event, service_view
from hub.actions.cancel import cancel_automation
from hub.actions.pick_up import release_service
from hub.actions.register import OPERATOR
from hub.actions.roster import Roster, lock_connection, read_roster, tell_parent
from hub.domain.events import OPERATOR_ONLY, Event, EventDraft
from hub.domain.parenthood import next_parent
from hub.store import contacts, conversations, event_log, numbers, outbox, pickups, replays, subscriptions, visibility
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record

_REASONS: Final = {True: ("operator", "removed"), False: ("asked", "disconnected")}
"""Why it left, by whether the operator did it: in `service.disconnected` and in `channel.parent_changed`."""


@dataclass(frozen=True, slots=True)
class _Leaver:
    """A service on one channel, which is locked, and who was on it."""

    home: Record
    epoch: int
    before: Sequence[Record]

    @property
    def place(self) -> Place:
        return Place(self.home["number_id"], self.home["e164"], self.home["channel_id"])

    @property
    def own(self) -> Record:
        return next(row for row in self.before if row["id"] == self.home["id"])

    @property
    def was_parent(self) -> bool:
        return bool(self.own["is_parent"])


async def disconnect(conn: Connection, service_id: UUID, e164: str, actor: str, now: datetime) -> list[Event]:
    """Take one service off a number. Raises `NotFound`, `Conflict` (`not_connected`)."""
    _, current = await lock_connection(conn, e164, service_id)
    home = await subscriptions.find_home(conn, current["id"])
    assert home is not None
    return await leave(conn, service_id, [home], actor, now)


async def leave(conn: Connection, service_id: UUID, homes: Sequence[Record], actor: str, now: datetime) -> list[Event]:
    """Take a service off the channels of these homes, whose numbers are locked in this order; where it was parent,
    promote the longest-connected other (A5).

    Its pick-ups are released and its automation is cancelled. Conversations, history and queued agent replies stay as
    they are (A4). All conversations concerned are locked at once, and all events written last, as the order of locks
    wants it.
    """
    leavers = [await _lock(conn, home) for home in homes]
    concerned: set[UUID] = set()
    for home in homes:
        concerned |= await _concerned(conn, home)
    states = await conversations.lock(conn, concerned)
    people = await contacts.list_contacts(conn, {state.contact_id for state in states.values()})
    drafts = await release_service(conn, service_id, states, people, now)
    for leaver in leavers:
        drafts += await _cancel(conn, leaver.home, states, people, now)
    for leaver in leavers:
        drafts += await _tell(conn, leaver, await _end(conn, leaver, now), actor, now)
    await conversations.save(conn, list(states.values()))
    return await event_log.append(conn, drafts)


async def _lock(conn: Connection, home: Record) -> _Leaver:
    channel = await numbers.lock_channel(conn, home["number_id"], home["kind"], home["owner_service_id"])
    assert channel is not None
    return _Leaver(home, channel["parent_epoch"], await subscriptions.list_members(conn, channel["id"]))


async def _concerned(conn: Connection, home: Record) -> set[UUID]:
    """The conversations in which something of the service ends with its connection."""
    channel_id, service_id = home["channel_id"], home["service_id"]
    automation = await outbox.list_automation_conversations(conn, channel_id, service_id)
    return {*automation, *await pickups.list_conversations(conn, channel_id, service_id)}


async def _cancel(
    conn: Connection,
    home: Record,
    states: Mapping[UUID, ConversationState],
    people: Mapping[UUID, Contact],
    now: datetime,
) -> list[EventDraft]:
    channel_id, service_id = home["channel_id"], home["service_id"]
    if home["kind"] == "shared":
        return await cancel_automation(conn, channel_id, service_id, states, people, now)
    detail = "The service left the number while it waited (rule A4)."
    return await cancel_automation(
        conn, channel_id, service_id, states, people, now, code="not_connected", detail=detail
    )


async def _end(conn: Connection, leaver: _Leaver, now: datetime) -> Roster:
    """End the connection; the heir is parent in the same moment."""
    home = leaver.home
    await subscriptions.end_subscription(conn, home["id"])
    await _look_away(conn, leaver, now)
    await replays.forget(conn, home["id"], now)
    epoch = leaver.epoch
    heir = next_parent(subscriptions.members(leaver.before), home["id"]) if leaver.was_parent else None
    if heir:
        epoch = await numbers.raise_epoch(conn, home["channel_id"])
        await subscriptions.set_parent(conn, heir.subscription_id)
    return await read_roster(conn, home["channel_id"], home["kind"], epoch)


async def _look_away(conn: Connection, leaver: _Leaver, now: datetime) -> None:
    """It asks to see nothing until it comes back, so that what is written meanwhile stays masked (C2); what it shared
    of its own, it shares still.
    """
    own, home = leaver.own, leaver.home
    await visibility.add_visibility(
        conn, home["channel_id"], home["service_id"], "masked", own["effective_share"], own["share_with"], now
    )


async def _tell(conn: Connection, leaver: _Leaver, roster: Roster, actor: str, now: datetime) -> list[EventDraft]:
    service = service_view(leaver.home["service_id"], leaver.home["name"])
    reason, change = _REASONS[actor == OPERATOR]
    await add_audit(conn, actor, "service.disconnected", leaver.place, service=service["id"], reason=reason)
    drafts = [channel_event("service.disconnected", leaver.place, now, service=service, reason=reason)]
    if leaver.was_parent:
        drafts.append(await tell_parent(conn, actor, leaver.place, roster, now, previous=service, reason=change))
    if not roster.members and roster.kind == "shared":
        drafts.append(channel_event("channel.unrouted", leaver.place, now, audience=OPERATOR_ONLY))
    return drafts
