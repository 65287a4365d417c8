"""Verb: pass a conversation to another service, which sees it as waiting for it (rule D4)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.actions.announce import service_view
from hub.actions.collide import Actor
from hub.actions.pick_up import lock_in_reach, release_passed
from hub.domain.errors import Conflict, Invalid
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.domain.masking import private_to
from hub.store import conversations, event_log, pickups
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class Passed:
    """The answer to a pass: for whom the conversation waits."""

    waiting_for: dict[str, Any] | None
    events: list[Event]


async def pass_on(
    conn: Connection, actor: Actor, conversation_id: UUID, to: UUID, note: str | None, now: datetime
) -> Passed:
    """Let a conversation wait for another service of its channel; what the passing service holds of it is released.

    Raises `NotFound`, `Invalid` (to itself), `Conflict` (`not_connected`).
    """
    state, contact, channel = await lock_in_reach(conn, actor.service_id, conversation_id)
    if to == actor.service_id:
        raise Invalid("a conversation is passed to another service, not to oneself: name another in 'to' (rule D4)")
    receiver = next((row for row in channel.members if row["service_id"] == to), None)
    if receiver is None:
        raise Conflict(
            f"{public_id('svc', to)} is not connected to this channel, so it could not see the conversation (rule D4): "
            "pass it to one of the services that GET /v1/numbers/{e164} lists",
            code="not_connected",
        )
    drafts = await release_passed(conn, actor.service_id, state, contact, now)
    await pickups.set_waiting(conn, state.id, actor.service_id, to, actor.agent_name, note, now)
    told: dict[str, Any] = {
        "from": service_view(actor.service_id, actor.service_name),
        "to": service_view(to, receiver["name"]),
        "agent": describe.agent(actor.agent_id, actor.agent_name),
        "private": [private_to([actor.service_id, to], note=note)],
    }
    drafts.append(describe.conversation_event("conversation.passed", state, contact, now, **told))
    await conversations.save(conn, [state])
    waiting = (await pickups.list_waiting(conn, [state.id]))[state.id]
    return Passed(waiting_view(waiting, actor.service_id), await event_log.append(conn, drafts))


async def settle_pass(conn: Connection, state: ConversationState, service_id: UUID) -> None:
    """This service takes up the locked conversation; if it was passed to it, it waits no more (D4)."""
    await pickups.settle(conn, state.id, service_id)


def waiting_view(waiting: Record, viewer: UUID | None) -> dict[str, Any]:
    """For whom a conversation waits, and since when; the note is for the two services only."""
    sides = (waiting["from_service_id"], waiting["to_service_id"])
    view = {
        "service": service_view(waiting["to_service_id"], waiting["to_name"]),
        "from": service_view(waiting["from_service_id"], waiting["from_name"]),
        "agent": {"name": waiting["agent_name"]} if waiting["agent_name"] else None,
        "since": waiting["at"],
    }
    return view | ({"note": waiting["note"]} if viewer in sides else {})
