"""The adapter API: numbers, and a service's connections to them (rules A2 to A11)."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hub.actions import connect as connecting
from hub.actions import disconnect as leaving
from hub.actions import pausing, roster, sender_health
from hub.actions.delivery_view import view_deliveries
from hub.actions.roster import Caller
from hub.domain.errors import Conflict
from hub.domain.events import Event
from hub.domain.ids import parse_id
from hub.http.answers import numbers as answers
from hub.http.auth import service
from hub.http.context import CONTEXT
from hub.http.operations import Body, operation
from hub.http.params import E164, LIMIT, integer
from hub.http.problems import answer
from hub.http.schemas import ConnectionIn, ResumeIn, read_optional
from hub.store import numbers, subscriptions
from hub.store.pool import Connection, Record
from hub.store.subscriptions import SubscriptionSettings

_AFTER = integer("after", "the `next` of the page before", default=0)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    number = "/v1/numbers/{e164}"
    app.router.add_get("/v1/numbers", service(list_numbers, "read"))
    app.router.add_get(number, service(get_number, "read"))
    app.router.add_put(f"{number}/connection", service(connect))
    app.router.add_delete(f"{number}/connection", service(disconnect))
    app.router.add_post(f"{number}/connection/rotate-secret", service(rotate_secret))
    app.router.add_post(f"{number}/connection/pause", service(pause))
    app.router.add_post(f"{number}/connection/resume", service(resume))


@operation(
    path=(E164,),
    body=Body(ConnectionIn, is_optional=True),
    answers={200: answers.Connected},
    codes=("already_connected", "endpoint_url_invalid", "endpoint_not_allowed", "events_expired"),
)
async def connect(request: web.Request, caller: Caller) -> web.Response:
    """Connect to a number, or update what was asked for."""
    context = request.app[CONTEXT]
    wanted = ConnectionIn.model_validate(await read_optional(request))
    if wanted.endpoint_url is not None:
        context.endpoints.check_url(wanted.endpoint_url)
    async with context.database.transaction() as conn:
        connected = await connecting.connect(
            conn,
            context.sealer,
            caller,
            E164.read(request),
            settings_of(wanted),
            datetime.now(UTC),
            start_at=wanted.start_at,
        )
    context.publish(connected.events)
    context.refresh()
    view = roster.connection_view(connected.roster, caller.service_id)
    if connected.signing_secret:
        view["signing_secret"] = connected.signing_secret
    return answer(view)


def settings_of(wanted: ConnectionIn) -> SubscriptionSettings:
    """What is stored of it."""
    named = wanted.share if isinstance(wanted.share, list) else []
    return SubscriptionSettings(
        endpoint_url=wanted.endpoint_url,
        event_types=wanted.event_types,
        display=wanted.display,
        share="named" if isinstance(wanted.share, list) else wanted.share,
        share_with=[parse_id("svc", name) for name in named],
        on_exhausted=wanted.on_exhausted,
    )


@operation(path=(E164,), answers={204: None}, codes=("not_connected",))
async def disconnect(request: web.Request, caller: Caller) -> web.Response:
    """Leave a number."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        events = await leaving.disconnect(conn, caller.service_id, E164.read(request), caller.actor, datetime.now(UTC))
    context.publish(events)
    context.refresh()
    return web.Response(status=204)


@operation(path=(E164,), answers={200: answers.NewSecret}, codes=("not_connected", "no_endpoint"))
async def rotate_secret(request: web.Request, caller: Caller) -> web.Response:
    """A new signing secret; the old one overlaps."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        secret = await connecting.rotate_secret(
            conn, context.sealer, caller.service_id, E164.read(request), context.secret_overlap
        )
    context.refresh()
    return answer({"signing_secret": secret, "overlap_seconds": context.secret_overlap})


@operation(path=(E164,), answers={200: answers.Connection}, codes=("not_connected",))
async def pause(request: web.Request, caller: Caller) -> web.Response:
    """Let the deliveries of a connection wait."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        _, own = await roster.lock_connection(conn, E164.read(request), caller.service_id)
        events = await pausing.pause(conn, own["id"], "asked", datetime.now(UTC))
    return await _changed(request, caller, events)


@operation(
    path=(E164,),
    body=Body(ResumeIn, is_optional=True),
    answers={200: answers.Connection},
    codes=("not_connected",),
)
async def resume(request: web.Request, caller: Caller) -> web.Response:
    """Let them go on."""
    context = request.app[CONTEXT]
    mode = ResumeIn.model_validate(await read_optional(request)).mode
    async with context.database.transaction() as conn:
        _, own = await roster.lock_connection(conn, E164.read(request), caller.service_id)
        events = await pausing.resume(conn, own["id"], mode, caller.actor, datetime.now(UTC))
    return await _changed(request, caller, events)


async def _changed(request: web.Request, caller: Caller, events: Sequence[Event]) -> web.Response:
    """Hand the events on; answers with the connection as it is now."""
    context = request.app[CONTEXT]
    context.publish(events)
    context.refresh()
    async with context.database.transaction() as conn:
        _, members = await roster.find_roster(conn, E164.read(request), caller.service_id)
    return answer(roster.connection_view(members, caller.service_id))


@operation(query=(_AFTER, LIMIT), answers={200: answers.Numbers})
async def list_numbers(request: web.Request, caller: Caller) -> web.Response:
    """The numbers of the organisation, by age."""
    after, limit = _AFTER.read(request), LIMIT.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await numbers.list_numbers(conn, after, limit)
        items = [await _number_view(conn, row, caller) for row in rows]
    return answer({"items": items, "next": str(rows[-1]["id"]) if len(rows) == limit else None})


@operation(path=(E164,), answers={200: answers.Number})
async def get_number(request: web.Request, caller: Caller) -> web.Response:
    """One number: senders, and for those connected its channel, parent and subscribers (A9)."""
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await roster.find_number(conn, E164.read(request))
        view = await _number_view(conn, row, caller)
        own = await subscriptions.find_subscription(conn, row["id"], caller.service_id)
        for seen in await view_deliveries(conn, [own["id"]]) if own else ():
            view["delivery"] = seen["delivery"]
    return answer(view)


async def _number_view(conn: Connection, number: Record, caller: Caller) -> dict[str, Any]:
    senders = await numbers.list_senders(conn, [number["id"]])
    health = await sender_health.list_views(conn, [row["id"] for row in senders])
    view: dict[str, Any] = {
        "e164": number["e164"],
        "senders": [_sender_view(row, health[row["id"]]) for row in senders],
        "role": None,
        "channel_id": None,
    }
    with suppress(Conflict):  # not connected, or not any more since a moment ago
        _, members = await roster.find_roster(conn, number["e164"], caller.service_id)
        view |= roster.connection_view(members, caller.service_id)
    return view


def _sender_view(row: Record, health: dict[str, Any]) -> dict[str, Any]:
    """A sender as services see it: its ids at the provider are the operator's."""
    return {"medium": row["medium"], "provider": row["provider"], "is_active": row["is_active"], "health": health}
