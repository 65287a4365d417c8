"""Verbs: pick a conversation up and release it; the leases end by themselves, too (rule D1)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from hub.actions import describe
from hub.actions.collide import Actor, find_collisions
from hub.actions.look import out_of_reach
from hub.actions.send_facts import Channel, lock_channel
from hub.domain.events import Event, EventDraft
from hub.domain.masking import project_holder
from hub.store import contacts, conversations, event_log, pickups
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pickups import Pickup
from hub.store.pool import Connection

Reason = Callable[[Pickup], str | None]
"""Why a pick-up ends, if it does."""


@dataclass(frozen=True, slots=True)
class PickedUp:
    """The answer to a pick-up: the service's own holder, and who else is at it."""

    pickup: dict[str, Any]
    warnings: list[dict[str, Any]]
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Released:
    """The answer to a release: whether there was something to release, and who holds the conversation still."""

    is_released: bool
    holder: dict[str, Any] | None
    events: list[Event]


async def lock_in_reach(
    conn: Connection, service_id: UUID, conversation_id: UUID
) -> tuple[ConversationState, Contact, Channel]:
    """Lock a conversation for one of its channel's services, which stays connected meanwhile. Raises `NotFound`."""
    reached = await conversations.find_in_reach(conn, conversation_id, service_id)
    if reached is None:
        raise out_of_reach()
    channel = await lock_channel(conn, reached["channel_id"])
    if not channel.has(service_id):
        raise out_of_reach()
    state = (await conversations.lock(conn, [conversation_id]))[conversation_id]
    contact = (await contacts.list_contacts(conn, [state.contact_id]))[state.contact_id]
    return state, contact, channel


async def pick_up(conn: Connection, actor: Actor, conversation_id: UUID, now: datetime) -> PickedUp:
    """An agent holds the conversation for their service, or goes on holding it; an agent who holds it for the same
    service already is relieved. Nobody is kept from it (D2). Raises `NotFound`.
    """
    assert actor.agent_id is not None
    state, contact, _ = await lock_in_reach(conn, actor.service_id, conversation_id)
    drafts = await _let_go(conn, {state.id: state}, {contact.id: contact}, _expired, now)
    collisions = await find_collisions(conn, state, contact, actor, now)
    before = await _own(conn, state, actor.service_id)
    await pickups.hold(conn, state.id, actor.service_id, actor.agent_id, actor.agent_name)
    await pickups.settle(conn, state.id, actor.service_id)
    held = (await pickups.list_pickups(conn, [state.id]))[state.id]
    state.picked_up_by = _longest(held)
    mine = next(pickup for pickup in held if pickup.service_id == actor.service_id)
    view = describe.holder(mine)
    if before is None or before.agent_id != actor.agent_id:
        drafts.append(
            describe.conversation_event("conversation.picked_up", state, contact, now, pickup=view | _previous(before))
        )
        drafts += collisions.drafts
    await conversations.save(conn, [state])
    return PickedUp(view, collisions.warnings, await event_log.append(conn, drafts))


async def release(
    conn: Connection, service_id: UUID, conversation_id: UUID, agent_id: str | None, now: datetime
) -> Released:
    """Release what a service holds, or only what this agent of it holds. Raises `NotFound`."""
    state, contact, _ = await lock_in_reach(conn, service_id, conversation_id)

    def reason(pickup: Pickup) -> str | None:
        is_asked = pickup.service_id == service_id and agent_id in {None, pickup.agent_id}
        return _expired(pickup) or ("released" if is_asked else None)

    drafts = await _let_go(conn, {state.id: state}, {contact.id: contact}, reason, now)
    await conversations.save(conn, [state])
    is_released = any(draft.data["reason"] == "released" for draft in drafts)
    left = (await pickups.list_pickups(conn, [state.id])).get(state.id)
    holder = project_holder(describe.holder(left[0]), service_id) if left else None
    return Released(is_released, holder, await event_log.append(conn, drafts))


async def release_passed(
    conn: Connection, service_id: UUID, state: ConversationState, contact: Contact, now: datetime
) -> list[EventDraft]:
    """Release what a service holds of the locked conversation that it passes on; the caller saves the state (D4)."""

    def reason(pickup: Pickup) -> str | None:
        return _expired(pickup) or ("passed" if pickup.service_id == service_id else None)

    return await _let_go(conn, {state.id: state}, {contact.id: contact}, reason, now)


async def release_service(
    conn: Connection, service_id: UUID, states: Mapping[UUID, ConversationState], people: Mapping[UUID, Contact],
    now: datetime,
) -> list[EventDraft]:  # fmt: skip
    """Release all that a leaving service holds of these locked conversations, and end what was passed to or from it
    (A4). `people` by contact id; the caller saves the states and logs the events.
    """

    def reason(pickup: Pickup) -> str | None:
        if pickup.service_id != service_id:
            return None
        return _expired(pickup) or "disconnected"

    drafts = await _let_go(conn, states, people, reason, now)
    await pickups.settle_all(conn, states, service_id)
    return drafts


async def expire_pickups(conn: Connection, limit: int, now: datetime) -> int:
    """End pick-ups whose lease is over, at most so many at once or a few more; gives how many."""
    due = await pickups.list_expired(conn, limit)
    states = await conversations.lock(conn, due)
    people = await contacts.list_contacts(conn, {state.contact_id for state in states.values()})
    drafts = await _let_go(conn, states, people, _expired, now)
    await conversations.save(conn, list(states.values()))
    await event_log.append(conn, drafts)
    return len(drafts)


def _expired(pickup: Pickup) -> str | None:
    return None if pickup.is_live else "expired"


async def _let_go(
    conn: Connection, states: Mapping[UUID, ConversationState], people: Mapping[UUID, Contact], reason_of: Reason,
    now: datetime,
) -> list[EventDraft]:  # fmt: skip
    """End those pick-ups that there is a reason for; the states say afterwards who holds the conversation."""
    held = await pickups.list_pickups(conn, states)
    gone = {pickup: reason for those in held.values() for pickup in those if (reason := reason_of(pickup))}
    await pickups.release(conn, list(gone))
    for conversation_id in {pickup.conversation_id for pickup in gone}:
        left = [pickup for pickup in held[conversation_id] if pickup not in gone]
        states[conversation_id].picked_up_by = _longest(left)
    drafts = []
    for pickup in sorted(gone, key=lambda pickup: pickup.conversation_id):
        state = states[pickup.conversation_id]
        told: dict[str, Any] = {"pickup": describe.holder(pickup), "reason": gone[pickup]}
        drafts.append(
            describe.conversation_event("conversation.released", state, people[state.contact_id], now, **told)
        )
    return drafts


def _longest(held: Iterable[Pickup]) -> str | None:
    """The longest-standing holder as events carry it; `held` is in that order."""
    first = next((pickup for pickup in held if pickup.is_live), None)
    return orjson.dumps(describe.holder(first), option=orjson.OPT_UTC_Z).decode() if first else None


async def _own(conn: Connection, state: ConversationState, service_id: UUID) -> Pickup | None:
    held = (await pickups.list_pickups(conn, [state.id])).get(state.id, ())
    return next((pickup for pickup in held if pickup.service_id == service_id), None)


def _previous(pickup: Pickup | None) -> dict[str, Any]:
    """Who is relieved within a service."""
    if pickup is None:
        return {}
    return {"previous": {"agent": describe.agent(pickup.agent_id, pickup.agent_name), "since": pickup.since}}
