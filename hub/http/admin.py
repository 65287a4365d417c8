"""The operator's API, under `/v1/admin/`, with the admin key."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import orjson
from aiohttp import web

from hub.actions import pausing, roster
from hub.actions.delivery_view import view_deliveries
from hub.actions.register import OPERATOR
from hub.domain.errors import NotFound
from hub.domain.events import Event
from hub.domain.ids import parse_id, public_id
from hub.http import admin_numbers, admin_quarantine, admin_services
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import ResumeIn, limit_of, number_of, read_optional
from hub.store import audit, delivery_health
from hub.store.pool import Connection, Record

_NONE = UUID(int=0)


def add_routes(app: web.Application) -> None:
    """Put the operator's paths into the application."""
    admin_services.add_routes(app)
    admin_numbers.add_routes(app)
    admin_quarantine.add_routes(app)
    for method, path, handler in (
        ("POST", "services/{id}/numbers/{e164}/pause", pause),
        ("POST", "services/{id}/numbers/{e164}/resume", resume),
        ("GET", "subscriptions", list_subscriptions),
        ("GET", "subscriptions/{id}", get_subscription),
        ("GET", "audit", list_audit),
    ):
        app.router.add_route(method, f"/v1/admin/{path}", operator(handler))


async def pause(request: web.Request) -> web.Response:
    """Let a service's deliveries wait."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        own = await _lock_connection(conn, request)
        events = await pausing.pause(conn, own["id"], "operator", datetime.now(UTC))
    return await _changed(request, own["id"], events)


async def resume(request: web.Request) -> web.Response:
    """Let them go on."""
    context = request.app[CONTEXT]
    mode = ResumeIn.model_validate(await read_optional(request)).mode
    async with context.database.transaction() as conn:
        own = await _lock_connection(conn, request)
        events = await pausing.resume(conn, own["id"], mode, OPERATOR, datetime.now(UTC))
    return await _changed(request, own["id"], events)


async def _lock_connection(conn: Connection, request: web.Request) -> Record:
    service_id = parse_id("svc", request.match_info["id"])
    return (await roster.lock_connection(conn, request.match_info["e164"], service_id))[1]


async def _changed(request: web.Request, subscription_id: UUID, events: Sequence[Event]) -> web.Response:
    """Hand the events on; answers with the subscription as it is now."""
    context = request.app[CONTEXT]
    context.publish(events)
    context.refresh()
    return await _subscription(request, subscription_id)


async def list_subscriptions(request: web.Request) -> web.Response:
    """Who is connected to what, by age, and how the deliveries to them go."""
    limit = limit_of(request)
    after = parse_id("sub", request.query["after"]) if "after" in request.query else _NONE
    async with request.app[CONTEXT].database.reading() as conn:
        ids = await delivery_health.list_ids(conn, after, limit)
        items = await view_deliveries(conn, ids)
    return answer({"items": items, "next": public_id("sub", ids[-1]) if len(ids) == limit else None})


async def get_subscription(request: web.Request) -> web.Response:
    """One connection."""
    return await _subscription(request, parse_id("sub", request.match_info["id"]))


async def _subscription(request: web.Request, subscription_id: UUID) -> web.Response:
    async with request.app[CONTEXT].database.reading() as conn:
        found = await view_deliveries(conn, [subscription_id])
    if not found:
        raise NotFound("there is no such subscription, or it has ended")
    return answer(found[0])


async def list_audit(request: web.Request) -> web.Response:
    """Who did what."""
    after, limit = number_of(request, "after", default=0), limit_of(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await audit.list_audit(conn, after, limit)
    items = [
        {
            "id": str(row["id"]),
            "at": row["at"],
            "actor": row["actor"],
            "action": row["action"],
            "subject": row["subject"],
            "channel_id": public_id("chn", row["channel_id"]) if row["channel_id"] else None,
            "details": orjson.Fragment(row["details"]),
        }
        for row in rows
    ]
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})
