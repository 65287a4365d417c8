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
from hub.actions.register import OPERATOR, register_number, register_service, replay_quarantined
from hub.domain.errors import Invalid, NotFound
from hub.domain.events import Event, whole
from hub.domain.ids import event_id, parse_id, public_id
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import NumberIn, ResumeIn, ServiceIn, event_number, limit_of, number_of, read_json, read_optional
from hub.store import audit, delivery_health, event_log, inbound, numbers, services
from hub.store.pool import Connection, Record

_NONE = UUID(int=0)


def add_routes(app: web.Application) -> None:
    """Put the operator's paths into the application."""
    for method, path, handler in (
        ("POST", "services", post_service),
        ("GET", "services", list_services),
        ("GET", "services/{id}", get_service),
        ("POST", "services/{id}/numbers/{e164}/pause", pause),
        ("POST", "services/{id}/numbers/{e164}/resume", resume),
        ("GET", "subscriptions", list_subscriptions),
        ("GET", "subscriptions/{id}", get_subscription),
        ("POST", "numbers", post_number),
        ("GET", "numbers", list_numbers),
        ("GET", "quarantine", list_quarantine),
        ("GET", "quarantine/{id}", get_quarantined),
        ("POST", "quarantine/{id}/replay", replay),
        ("GET", "events", list_events),
        ("GET", "audit", list_audit),
    ):
        app.router.add_route(method, f"/v1/admin/{path}", operator(handler))


async def post_service(request: web.Request) -> web.Response:
    """Register a service; its API key is shown this once."""
    wanted = ServiceIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        made, key = await register_service(conn, **wanted.model_dump())
    return answer({**_service_view(made), "api_key": key}, status=201)


async def list_services(request: web.Request) -> web.Response:
    """Services by age."""
    limit = limit_of(request)
    after = parse_id("svc", request.query["after"]) if "after" in request.query else _NONE
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await services.list_services(conn, after, limit)
    items = [_service_view(row) for row in rows]
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


async def get_service(request: web.Request) -> web.Response:
    """One service."""
    async with request.app[CONTEXT].database.reading() as conn:
        row = await services.find_service(conn, parse_id("svc", request.match_info["id"]))
    if row is None:
        raise NotFound("there is no such service")
    return answer(_service_view(row))


def _service_view(row: Record) -> dict[str, Any]:
    return {
        "id": public_id("svc", row["id"]),
        "name": row["name"],
        "plan": row["plan"],
        "product": row["product"],
        "upgraded_from_standalone": row["upgraded_from_standalone"],
        "scopes": row["scopes"],
        "created_at": row["created_at"],
    }


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


async def post_number(request: web.Request) -> web.Response:
    """Register a number with its senders; its shared channel exists from then on (A7)."""
    wanted = NumberIn.model_validate((await read_json(request))[1])
    senders = [(s.medium, s.provider, s.external_id) for s in wanted.senders]
    async with request.app[CONTEXT].database.transaction() as conn:
        channel_id = await register_number(conn, wanted.e164, senders)
    view = {"e164": wanted.e164, "channel_id": public_id("chn", channel_id), "senders": wanted.model_dump()["senders"]}
    return answer(view, status=201)


async def list_numbers(request: web.Request) -> web.Response:
    """Numbers with senders and channels."""
    after, limit = number_of(request, "after", default=0), limit_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await numbers.list_numbers(conn, after, limit)
        senders = await numbers.list_senders(conn, [row["id"] for row in rows])
    items = [
        {
            "e164": row["e164"],
            "senders": [
                {name: s[name] for name in ("medium", "provider", "external_id", "is_active")}
                for s in senders
                if s["number_id"] == row["id"]
            ],
        }
        for row in rows
    ]
    return answer({"items": items, "next": str(rows[-1]["id"]) if len(rows) == limit else None})


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


async def list_events(request: web.Request) -> web.Response:
    """The event log for the operator, unmasked."""
    after, limit = event_number(request.query.get("after", "evt_0")), limit_of(request)
    if after is None:
        raise Invalid("after is the event_id of an earlier event")
    async with request.app[CONTEXT].database.reading() as conn:
        events = await event_log.list_recent(conn, after, limit)
    items = [
        {
            "event_id": event_id(e.id),
            "type": e.type,
            "timestamp": e.at,
            "data": {"event_id": event_id(e.id), **whole(e)},
        }
        for e in events
    ]
    return answer({"items": items, "next": items[-1]["event_id"] if len(items) == limit else None})


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
