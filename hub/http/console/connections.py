"""A service's connection to a number: its own people's forms, and the operator's (rules A4, A5, A11, C2, G1, G5)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from hub.actions import connect as connecting
from hub.actions import disconnect as leaving
from hub.actions import pausing, roster
from hub.actions.delivery_view import view_deliveries
from hub.actions.manage_service import find_service
from hub.actions.pausing import Mode
from hub.domain.errors import Invalid, NotFound
from hub.domain.events import Event
from hub.domain.ids import parse_id, public_id
from hub.http.console.desks import service_in
from hub.http.console.fields import Fields, given, is_first, read_as, ticked
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT, Context
from hub.http.numbers import settings_of
from hub.http.schemas import ConnectionIn, ResumeIn
from hub.store import delivery_desk, subscriptions

_URL: Final = "/console/numbers/{e164}/connection"


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get("/console/subscriptions/{id}", page(show_subscription, "read"))
    for path, handler in (
        ("/rotate", rotate),
        ("/pause", pause),
        ("/resume", resume),
        ("/leave", leave),
    ):
        app.router.add_post(f"{_URL}{path}", form(handler))


async def show_subscription(request: web.Request, viewer: Viewer) -> web.Response:
    """One connection: how deliveries to it go, and what stands against them."""
    subscription_id = parse_id("sub", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        home = await subscriptions.find_home(conn, subscription_id)
        if home is None or viewer.service_id not in {None, home["service_id"]}:
            raise NotFound("There is no such connection, or it has ended.")
        (view,) = await view_deliveries(conn, [subscription_id])
        dead = await delivery_desk.count_dead(conn, [subscription_id])
        _, found = await roster.find_roster(conn, home["e164"], home["service_id"])
    own = next(row for row in found.members if row["id"] == subscription_id)
    return render(
        request, viewer, "subscription.html", title=f"{home['name']} on {home['e164']}", connection=view,
        settings=roster.settings_view(own), dead=dead[subscription_id],
        connect=f"/console/numbers/{home['e164']}/connection",
    )  # fmt: skip


# A service's own ------------------------------------------------------------------------------------------------------


async def connect(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Connect to a number, or change what was asked for; a new connection's secret is in this answer alone. Raises
    `Refusal`, for the number's page to show with what was typed.
    """
    context, e164 = request.app[CONTEXT], request.match_info["e164"]
    if viewer.caller is None:
        raise Invalid("Only a service connects a number: log in with its key, or have it call the API (rule A2).")
    wanted = read_as(ConnectionIn, asked_for(fields))
    if wanted.endpoint_url is not None:
        context.endpoints.check_url(wanted.endpoint_url)
    async with context.database.transaction() as conn:
        is_repeat = not await is_first(conn, viewer, fields)
        connected = await connecting.connect(
            conn, context.sealer, viewer.caller, e164, settings_of(wanted), datetime.now(UTC)
        )
    _publish(context, connected.events)
    if connected.signing_secret is None:
        told = "Saved. The next delivery goes by it."
        if is_repeat:
            told = f"{told} It was sent before: if you did not see a signing secret then, rotate it to have another."
        return see_other(request, f"/console/numbers/{e164}", notice=told)
    role = connected.roster.role_of(viewer.caller.service_id)
    return _show_secret(
        request, viewer, connected.signing_secret, f"{viewer.name} is connected to {e164} as {role}",
    )  # fmt: skip


def asked_for(fields: Fields) -> dict[str, Any]:
    """The form as the API has it: no event type ticked means all; named services only where that was chosen."""
    share = given(fields, "share")
    return {
        "endpoint_url": given(fields, "endpoint_url"),
        "event_types": ticked(fields, "type ") or None,
        "display": fields.get("display", "masked"),
        "share": ticked(fields, "share ") if share == "named" else share,
        "on_exhausted": fields.get("on_exhausted", "continue"),
    }


def _publish(context: Context, events: Sequence[Event]) -> None:
    context.publish(events)
    context.refresh()


async def rotate(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """A new signing secret, in this answer alone; the old one overlaps (G1)."""
    context, e164 = request.app[CONTEXT], request.match_info["e164"]
    if viewer.caller is None:
        raise Invalid("Only the service itself rotates its secret: it alone is to know it (rule G1).")
    async with context.database.transaction() as conn:
        if not await is_first(conn, viewer, fields):
            notice = "It was rotated already, and the new secret shown then. If you did not see it, rotate again."
            return see_other(request, f"/console/numbers/{e164}", notice=notice)
        secret = await connecting.rotate_secret(
            conn, context.sealer, viewer.caller.service_id, e164, context.secret_overlap
        )
    context.refresh()
    return _show_secret(request, viewer, secret, f"A new signing secret for {e164}")


def _show_secret(request: web.Request, viewer: Viewer, secret: str, title: str) -> web.Response:
    hours = request.app[CONTEXT].secret_overlap / 3600
    return render(
        request, viewer, "shown_once.html", title=title, kind="Signing secret", secret=secret, whose=viewer.name,
        use="Your endpoint checks every webhook with it (Standard Webhooks: webhook-id, webhook-timestamp,"
        f" webhook-signature). A secret that it replaces is valid for another {hours:g} hours: deliveries carry both"
        " signatures.",
        lost="It is lost? Rotate it: that makes another.",
        commands=[("See why a signature does not verify", "partyline verify --help")],
        onward=(f"/console/numbers/{request.match_info['e164']}", "To the number"),
    )  # fmt: skip


# Pausing, going on, leaving -------------------------------------------------------------------------------------------


async def pause(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Let the deliveries of a connection wait; rank and parenthood stay (A5)."""
    context, service_id = request.app[CONTEXT], service_in(viewer, fields)
    async with context.database.transaction() as conn:
        _, own = await roster.lock_connection(conn, request.match_info["e164"], service_id)
        reason: pausing.Reason = "operator" if viewer.is_operator else "asked"
        events = await pausing.pause(conn, own["id"], reason, datetime.now(UTC))
    _publish(context, events)
    told = "Paused: events wait, and nobody else takes its place." if events else "It was paused already."
    return see_other(request, _back(request, fields), notice=told)


async def resume(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Deliver again; leaving out what waited asks first."""
    context, service_id = request.app[CONTEXT], service_in(viewer, fields)
    mode: Mode = read_as(ResumeIn, {"mode": fields.get("mode", "continue")}).mode
    if mode == "skip" and "confirmed" not in fields:
        return await _ask_to_skip(request, viewer, fields)
    async with context.database.transaction() as conn:
        _, own = await roster.lock_connection(conn, request.match_info["e164"], service_id)
        events = await pausing.resume(conn, own["id"], mode, viewer.actor, datetime.now(UTC))
    _publish(context, events)
    told = "Delivering again." if events else "It was delivering already: nothing was left out."
    return see_other(request, _back(request, fields), notice=told)


async def _ask_to_skip(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    service_id, e164 = service_in(viewer, fields), request.match_info["e164"]
    async with request.app[CONTEXT].database.transaction() as conn:
        service = await find_service(conn, service_id)
        _, found = await roster.find_roster(conn, e164, service_id)
        own = next(row["id"] for row in found.members if row["service_id"] == service_id)
        (view,) = await view_deliveries(conn, [own])
    delivery = view["delivery"]
    parked = delivery["parked_lanes"]
    since = f" since {delivery['paused_at']:%d %b %Y %H:%M:%S} UTC" if delivery["paused_at"] else ""
    return _confirm(
        request, viewer, fields, f"Leave out what waited for {service['name']}?", "Leave it out and go on",
        {"mode": "skip"},
        [
            f"{service['name']} never gets by webhook what happened on {e164}{since}: it goes on with what comes next.",
            f"{parked} parked conversation{'s' if parked != 1 else ''} with what waits in"
            f" {'them' if parked != 1 else 'it'} {'are' if parked != 1 else 'is'} given up, too."
            if parked else "No conversation is parked.",
            "The events stay in the log for as long as it is kept: the feed has them, and a replay still brings them.",
        ],
    )  # fmt: skip


async def leave(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Take a service off a number, by itself or by the operator; asks first (A4, A5)."""
    context, service_id, e164 = request.app[CONTEXT], service_in(viewer, fields), request.match_info["e164"]
    if "confirmed" not in fields:
        return await _ask_to_leave(request, viewer, fields)
    async with context.database.transaction() as conn:
        name = (await find_service(conn, service_id))["name"]
        events = await leaving.disconnect(conn, service_id, e164, viewer.actor, datetime.now(UTC))
    _publish(context, events)
    return see_other(request, f"/console/numbers/{e164}", notice=f"{name} has left {e164}.")


async def _ask_to_leave(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    service_id, e164 = service_in(viewer, fields), request.match_info["e164"]
    async with request.app[CONTEXT].database.transaction() as conn:
        service = await find_service(conn, service_id)
        number, found = await roster.find_roster(conn, e164, service_id)
        count = delivery_desk.count_automation
        waiting = await count(conn, number["id"], found.channel_id, service_id)
    name = service["name"]
    losses = [
        f"Nothing more of {e164} is delivered to {name}, and it can read nothing of it any more.",
        "Its agents' pick-ups are released, its replays end, its parked conversations and dead letters are dropped.",
        f"As for what it automates: {what_ends(waiting)}.",
        "If it connects again it begins with what comes then, at the end of the line, with another signing secret.",
    ]  # fmt: skip
    if found.role_of(service_id) == "parent":
        others = [row["name"] for row in found.members if row["service_id"] != service_id]
        heir = f"{others[0]} becomes it" if others else "there is none then, and what customers write is only stored"
        losses.insert(0, f"{name} is the parent: {heir}.")
    return _confirm(request, viewer, fields, f"Take {name} off {e164}?", f"Take {name} off", {}, losses)


def what_ends(waiting: int) -> str:
    """What becomes of so many automated messages that wait, when a service may no longer automate."""
    if not waiting:
        return "no automated message of it waits just now"
    many = ("s", "are") if waiting > 1 else ("", "is")
    return f"{waiting} automated message{many[0]} of it, waiting or scheduled, {many[1]} cancelled, each with an event"


def _confirm(
    request: web.Request, viewer: Viewer, fields: Fields, title: str, button: str, more: dict[str, str],
    losses: list[str],
) -> web.Response:  # fmt: skip
    named = {"service": public_id("svc", service_in(viewer, fields))} if viewer.is_operator else {}
    return render(
        request, viewer, "confirm.html", title=title, action=request.path, button=button, losses=losses, names=[],
        fields={"confirmed": "yes", **named, **more}, back=_back(request, fields),
    )  # fmt: skip


def _back(request: web.Request, fields: Fields) -> str:
    """The page that the form was on, where that is the connection's own; else the number's."""
    back = fields.get("back", "")
    is_own = (
        back.startswith("/console/subscriptions/sub_") and back.removeprefix("/console/subscriptions/sub_").isalnum()
    )
    return back if is_own else f"/console/numbers/{request.match_info['e164']}"
