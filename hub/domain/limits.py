"""How much people can write: what goes beyond is no person (rule E3)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from hub.domain.errors import TooMany

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that agents may write, and services open; 0: no limit."""

    agent_per_minute: int = 30
    service_per_minute: int = 300
    new_conversations_per_hour: int = 20


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` of `what` within `window`."""

    name: str
    what: str
    most: int
    window: timedelta


def agent_limit(limits: Limits) -> Limit:
    """What one agent, by the service's word, may write."""
    return Limit("agent", "messages of one agent in a minute", limits.agent_per_minute, MINUTE)


def service_limit(limits: Limits) -> Limit:
    """What all agents of a service may write together."""
    return Limit("service", "agents' messages of one service in a minute", limits.service_per_minute, MINUTE)


def opening_limit(limits: Limits) -> Limit:
    """What a service that may not automate may begin."""
    return Limit(
        "new_conversations",
        "new conversations in an hour, begun by a service that is not the parent",
        limits.new_conversations_per_hour,
        HOUR,
    )


def check_limit(limit: Limit, oldest: datetime | None, now: datetime) -> TooMany | None:
    """The refusal that stands against one more. `oldest` is the `most`-th latest of those before; None: there are not
    so many. As soon as it is out of the window, one more may come.
    """
    if not limit.most or oldest is None or oldest <= now - limit.window:
        return None
    wait = max(1, ceil((oldest + limit.window - now).total_seconds()))
    return TooMany(
        f"This looks automated: over {limit.most} {limit.what} (rule E3). Wait {wait} s; what a machine writes is sent"
        " by the parent, under its own origin.",
        code="looks_automated",
        limit=limit.name,
        most=limit.most,
        retry_after=wait,
    )
