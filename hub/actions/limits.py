"""Counting what agents write, so that a machine that calls itself an agent is noticed (rule E3)."""

from datetime import datetime
from uuid import UUID

from hub.domain.limits import Limits, agent_limit, check_limit, opening_limit, service_limit
from hub.store import limits as counts
from hub.store.pool import Connection


async def check_agent(conn: Connection, service_id: UUID, agent_id: str, limits: Limits, now: datetime) -> None:
    """Raises `TooMany` (`looks_automated`) where the agent, or its service, has written as much as people can.

    Counts under the service's own lock, which is kept to the end: exact, whatever comes at once. What was refused, or
    is the repetition of a request, was never stored and so is not counted.
    """
    agent, service = agent_limit(limits), service_limit(limits)
    if not (agent.most or service.most):
        return
    await counts.lock(conn, service_id)
    if agent.most:
        nth = await counts.find_nth_of_agent(conn, service_id, agent_id, now - agent.window, agent.most)
        if refusal := check_limit(agent, nth, now):
            raise refusal
    if service.most:
        nth = await counts.find_nth_of_service(conn, service_id, now - service.window, service.most)
        if refusal := check_limit(service, nth, now):
            raise refusal


async def check_opening(conn: Connection, service_id: UUID, limits: Limits, now: datetime) -> None:
    """Raises `TooMany` (`looks_automated`) where a service has begun more conversations than people do. The one that
    it begins just now is noted already; so this is to be called under the service's lock.
    """
    limit = opening_limit(limits)
    if limit.most:
        nth = await counts.find_nth_opened(conn, service_id, now - limit.window, limit.most + 1)
        if refusal := check_limit(limit, nth, now):
            raise refusal
