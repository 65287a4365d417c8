"""Telling an agent that somebody else is at the same conversation: a warning, never a block (rules D2, D3)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.domain.collision import RECENT, Agent, Collision, Newer, Trace, find_newer, find_others
from hub.domain.events import EventDraft
from hub.domain.ids import public_id
from hub.store import conversations, pickups
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an agent of a service; automation has no agent."""

    service_id: UUID
    service_name: str
    agent_id: str | None
    agent_name: str | None


@dataclass(frozen=True, slots=True)
class Collisions:
    """What the answer warns of, and the events for both sides."""

    warnings: list[dict[str, Any]] = field(default_factory=list)
    drafts: list[EventDraft] = field(default_factory=list)


async def find_collisions(
    conn: Connection, state: ConversationState, contact: Contact, actor: Actor, now: datetime,
    seen_sequence: int | None = None,
) -> Collisions:  # fmt: skip
    """Who else holds the locked conversation or answered it lately, and what came after `seen_sequence`."""
    me = Agent(actor.service_id, actor.agent_id, actor.service_name, actor.agent_name)
    others = find_others(me, await _holders(conn, state.id), await _replies(conn, state.id, now), now)
    warnings = [_warning(me, other) for other in others]
    if seen_sequence is not None:
        warnings += _newer_messages(me, await conversations.list_newer(conn, state.id, seen_sequence))
    if actor.agent_id is None:  # a bot gets in an agent's way, but is no second agent
        return Collisions(warnings)
    return Collisions(warnings, [_event(state, contact, me, other, now) for other in others])


async def _holders(conn: Connection, conversation_id: UUID) -> list[Trace]:
    held = (await pickups.list_pickups(conn, [conversation_id])).get(conversation_id, ())
    return [
        Trace(Agent(pickup.service_id, pickup.agent_id, pickup.service_name, pickup.agent_name), pickup.since)
        for pickup in held
        if pickup.is_live
    ]


async def _replies(conn: Connection, conversation_id: UUID, now: datetime) -> list[Trace]:
    rows = await conversations.list_replies(conn, conversation_id, now - RECENT)
    return [Trace(_author(row), row["at"]) for row in rows]


def _author(row: Record) -> Agent:
    return Agent(row["author_service_id"], row["agent_id"], row["author_name"], row["agent_name"])


def _newer_messages(me: Agent, rows: Iterable[Record]) -> list[dict[str, Any]]:
    newer = find_newer(me, (Newer(_author(row), row["count"], row["since"], row["sequence"]) for row in rows))
    if newer is None:
        return []
    view = _side(newer.agent, me.service_id)
    return [{"code": "newer_messages", **view, "since": newer.since, "sequence": newer.sequence, "count": newer.count}]


def _warning(me: Agent, other: Collision) -> dict[str, Any]:
    return {"code": other.code, **_side(other.agent, me.service_id), "since": other.since}


def _side(agent: Agent, viewer: UUID | None) -> dict[str, Any]:
    """An agent and its service; the agent's id for its own service only (C1)."""
    shown = describe.agent(agent.agent_id, agent.agent_name)
    if shown and agent.service_id != viewer:
        del shown["id"]
    known = agent.service_id and {"id": public_id("svc", agent.service_id), "name": agent.service_name}
    return {"agent": shown, "service": known}


def _event(state: ConversationState, contact: Contact, me: Agent, other: Collision, now: datetime) -> EventDraft:
    """Both services hear of it, and nobody else; display names only, since it is one event for both."""
    assert me.service_id is not None
    assert other.agent.service_id is not None
    sides = [{**_side(me, None), "since": now}, {**_side(other.agent, None), "since": other.since}]
    return describe.conversation_event(
        "conversation.collision", state, contact, now,
        audience=sorted({me.service_id, other.agent.service_id}),
        collision={"code": other.code, "agents": sides},
    )  # fmt: skip
