"""The operator's API, under `/v1/admin/`, with the admin key."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from aiohttp import web

from hub.actions import pausing, roster
from hub.actions.delivery_view import view_deliveries
from hub.actions.register import OPERATOR
from hub.domain.errors import NotFound
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.http import admin_audit, admin_deliveries, admin_numbers, admin_quarantine, admin_services
from hub.http.answers.admin import Subscription, Subscriptions
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.operations import Body, operation
from hub.http.params import E164, LIMIT, SERVICE, after_id, in_path
from hub.http.problems import answer
from hub.http.schemas import ResumeIn, read_optional
from hub.store import delivery_health
from hub.store.pool import Connection, Record

_AFTER: Final = after_id("sub")
_SUBSCRIPTION: Final = in_path("sub", "the subscription")


def add_routes(app: web.Application) -> None:
    """Put the operator's paths into the application."""
    admin_services.add_routes(app)
    admin_numbers.add_routes(app)
    admin_quarantine.add_routes(app)
    admin_deliveries.add_routes(app)
    admin_audit.add_routes(app)
    for method, path, handler in (
        ("POST", "services/{id}/numbers/{e164}/pause", pause_service),
        ("POST", "services/{id}/numbers/{e164}/resume", resume_service),
        ("GET", "subscriptions", list_subscriptions),
        ("GET", "subscriptions/{id}", get_subscription),
    ):
        app.router.add_route(method, f"/v1/admin/{path}", operator(handler))


@operation(path=(SERVICE, E164), answers={200: Subscription}, codes=("not_connected",))
async def pause_service(request: web.Request) -> web.Response:
    """Let a service's deliveries wait."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        own = await _lock_connection(conn, request)
        events = await pausing.pause(conn, own["id"], "operator", datetime.now(UTC))
    return await _changed(request, own["id"], events)


@operation(
    path=(SERVICE, E164),
    body=Body(ResumeIn, is_optional=True),
    answers={200: Subscription},
    codes=("not_connected",),
)
async def resume_service(request: web.Request) -> web.Response:
    """Let a service's deliveries go on, with all that waited or without it."""
    context = request.app[CONTEXT]
    mode = ResumeIn.model_validate(await read_optional(request)).mode
    async with context.database.transaction() as conn:
        own = await _lock_connection(conn, request)
        events = await pausing.resume(conn, own["id"], mode, OPERATOR, datetime.now(UTC))
    return await _changed(request, own["id"], events)


async def _lock_connection(conn: Connection, request: web.Request) -> Record:
    return (await roster.lock_connection(conn, E164.read(request), SERVICE.read(request)))[1]


async def _changed(request: web.Request, subscription_id: UUID, events: Sequence[Event]) -> web.Response:
    """Hand the events on; answers with the subscription as it is now."""
    context = request.app[CONTEXT]
    context.publish(events)
    context.refresh()
    return await _subscription(request, subscription_id)


@operation(query=(_AFTER, LIMIT), answers={200: Subscriptions})
async def list_subscriptions(request: web.Request) -> web.Response:
    """Who is connected to what, by age, and how the deliveries to them go."""
    limit, after = LIMIT.read(request), _AFTER.read(request)
    async with request.app[CONTEXT].database.reading() as conn:
        ids = await delivery_health.list_ids(conn, after, limit)
        items = await view_deliveries(conn, ids)
    return answer({"items": items, "next": public_id("sub", ids[-1]) if len(ids) == limit else None})


@operation(path=(_SUBSCRIPTION,), answers={200: Subscription})
async def get_subscription(request: web.Request) -> web.Response:
    """One connection."""
    return await _subscription(request, _SUBSCRIPTION.read(request))


async def _subscription(request: web.Request, subscription_id: UUID) -> web.Response:
    async with request.app[CONTEXT].database.reading() as conn:
        found = await view_deliveries(conn, [subscription_id])
    if not found:
        raise NotFound("there is no such subscription, or it has ended")
    return answer(found[0])
