"""The operator's API, under `/v1/admin/`, with the admin key."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from hub.actions import pausing, roster
from hub.actions.delivery_view import view_deliveries
from hub.actions.register import OPERATOR, replay_quarantined
from hub.domain.errors import Invalid, NotFound
from hub.domain.events import Event
from hub.domain.ids import parse_id, public_id
from hub.http import admin_numbers, admin_services
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import ResumeIn, limit_of, number_of, read_optional
from hub.store import audit, delivery_health, inbound
from hub.store.pool import Connection, Record

_NONE = UUID(int=0)


def add_routes(app: web.Application) -> None:
    """Put the operator's paths into the application."""
    admin_services.add_routes(app)
    admin_numbers.add_routes(app)
    for method, path, handler in (
        ("POST", "services/{id}/numbers/{e164}/pause", pause),
        ("POST", "services/{id}/numbers/{e164}/resume", resume),
        ("GET", "subscriptions", list_subscriptions),
        ("GET", "subscriptions/{id}", get_subscription),
        ("GET", "quarantine", list_quarantine),
        ("GET", "quarantine/{id}", get_quarantined),
        ("POST", "quarantine/{id}/replay", replay),
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


async def list_quarantine(request: web.Request) -> web.Response:
    """What could not be taken in, and why; `state=open` leaves notes and replayed entries out."""
    state = request.query.get("state")
    if state not in {None, "open", "noted", "replayed"}:
        raise Invalid("state is open, noted or replayed")
    after, limit = number_of(request, "after", default=0), limit_of(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await inbound.list_quarantined(conn, after, limit, state)
    items = [_quarantine_view(row) for row in rows]
    return answer({"items": items, "next": str(rows[-1]["id"]) if len(rows) == limit else None})


async def get_quarantined(request: web.Request) -> web.Response:
    """One entry, with its bytes in base64."""
    async with request.app[CONTEXT].database.reading() as conn:
        row = await inbound.find_quarantined(conn, _entry_id(request))
    if row is None:
        raise NotFound("there is no such quarantine entry")
    return answer(_quarantine_view(row))


def _quarantine_view(row: Record) -> dict[str, Any]:
    view = {
        name: row[name]
        for name in ("provider", "path", "content_type", "reason", "detail", "state", "times", "received_at",
                     "last_received_at", "replayed_at")
    }  # fmt: skip
    raw = bytes(row["raw"])
    return {"id": str(row["id"]), **view, "raw": base64.b64encode(raw).decode()}


def _entry_id(request: web.Request) -> int:
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound("there is no such quarantine entry")
    return int(text)


async def replay(request: web.Request) -> web.Response:
    """Take an entry in after all, now that its number is registered or the parser knows better (B5)."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        received = await replay_quarantined(conn, context.routes, _entry_id(request), datetime.now(UTC))
    context.publish(received.events)
    return answer({"taken": received.fresh, "duplicates": received.duplicates})


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
