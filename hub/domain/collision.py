"""Whether an agent gets in somebody's way: a warning, never a block (rules D2, D3)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

RECENT: Final = timedelta(minutes=15)
"""How long a reply counts as recent (D2)."""

Code = Literal["picked_up", "replied_recently"]


@dataclass(frozen=True, slots=True)
class Agent:
    """Whoever is at a conversation: an agent of a service, its automation (no agent), or the customer (no service)."""

    service_id: UUID | None
    agent_id: str | None
    service_name: str | None = None
    agent_name: str | None = None

    def is_same(self, other: "Agent") -> bool:
        """Whether both are one, whatever they are called now."""
        return (self.service_id, self.agent_id) == (other.service_id, other.agent_id)


@dataclass(frozen=True, slots=True)
class Trace:
    """What somebody did: holds the conversation since then, or replied then."""

    agent: Agent
    at: datetime


@dataclass(frozen=True, slots=True)
class Collision:
    """Another agent at the same conversation, since when, and how that is known."""

    code: Code
    agent: Agent
    since: datetime


def find_others(me: Agent, holders: Iterable[Trace], replies: Iterable[Trace], now: datetime) -> list[Collision]:
    """Every other agent once (D2): who holds the conversation, else who replied lately, with the last time they did.

    `holders` are those whose lease lasts.
    """
    found: dict[tuple[UUID | None, str | None], Collision] = {}
    recent = sorted((reply for reply in replies if now - reply.at < RECENT), key=lambda reply: reply.at, reverse=True)
    traces: tuple[tuple[Code, Iterable[Trace]], ...] = (("picked_up", holders), ("replied_recently", recent))
    for code, those in traces:
        for trace in those:
            if not trace.agent.is_same(me):
                key = (trace.agent.service_id, trace.agent.agent_id)
                found.setdefault(key, Collision(code, trace.agent, trace.at))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Newer:
    """Messages that came after the one that was seen last: how many, since when, and the number of the last."""

    agent: Agent
    count: int
    since: datetime
    sequence: int


def find_newer(me: Agent, groups: Iterable[Newer]) -> Newer | None:
    """All that others wrote meanwhile as one (D3), or None; it names whoever wrote last. `groups`: one per author."""
    others = [group for group in groups if not group.agent.is_same(me)]
    if not others:
        return None
    last = max(others, key=lambda group: group.sequence)
    return Newer(last.agent, sum(group.count for group in others), min(group.since for group in others), last.sequence)
