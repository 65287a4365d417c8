"""Numbers: senders and their health, who is parent, who is connected, and how deliveries go (rules A1, A9)."""

from typing import Any, Final

from aiohttp import web

from hub.actions import roster, sender_health
from hub.actions.delivery_view import view_deliveries
from hub.actions.manage_number import view_senders
from hub.actions.register import register_number
from hub.actions.roster import Roster
from hub.domain.errors import Conflict, Invalid
from hub.domain.events import EVENT_TYPES
from hub.domain.ids import public_id
from hub.http.admin_schemas import NumberIn
from hub.http.console import connections, number_changes
from hub.http.console.fields import PAGE, Fields, asked, given, new_once, next_url, read_as
from hub.http.console.number_changes import MEDIA, draft_of, sender_in
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.sender_words import cure_of
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.http.schemas import number_of
from hub.store import delivery_desk, number_summaries, numbers, reconciliations
from hub.store.pool import Connection, Record

_URL: Final = "/console/numbers"


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get(_URL, page(show_numbers, "read"))
    app.router.add_post(_URL, form(register, operator_only=True))
    app.router.add_get(f"{_URL}/{{e164}}", page(show_number, "read"))
    app.router.add_post(f"{_URL}/{{e164}}/connection", form(connect))
    number_changes.add_routes(app)
    connections.add_routes(app)


# The list ------------------------------------------------------------------------------------------------------------


async def show_numbers(
    request: web.Request, viewer: Viewer, typed: Fields | None = None, wrong: str | None = None
) -> web.Response:
    """The numbers of the organisation, by age; for the operator with what providers' lists were compared up to, and a
    form to register one, with what was `typed`, where that was `wrong`.
    """
    after = number_of(request, "after", default=0) if asked(request, "after") else 0
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await numbers.list_numbers(conn, after, PAGE)
        ids = [row["id"] for row in rows]
        senders = await _senders(conn, viewer, await numbers.list_senders(conn, ids))
        summaries = await number_summaries.list_summaries(conn, ids)
        own = await number_summaries.list_own(conn, ids, viewer.service_id) if viewer.service_id else {}
        marks = await reconciliations.list_marks(conn) if viewer.is_operator else []
    items = [
        {
            "e164": row["e164"],
            "senders": [each for each in senders if each["number_id"] == row["id"] and each["is_active"]],
            "shared": summaries[row["id"]],
            "own": own.get(row["id"]),
        }
        for row in rows
    ]
    following = next_url(request, after=rows[-1]["id"]) if len(rows) == PAGE else None
    return render(
        request, viewer, "numbers.html", title="Numbers", rows=items, next_url=following, marks=marks,
        typed=typed, wrong=wrong, status=422 if wrong else 200,
    )  # fmt: skip


async def register(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Register a number with its senders; its shared channel exists from then on (A7)."""
    senders = [sender_in(fields, f"{medium} ") for medium in MEDIA if given(fields, f"{medium} external_id")]
    try:
        if not senders:
            raise Invalid("A number has at least one sender: fill in WhatsApp, SMS, or both (rule A1).")
        wanted = read_as(NumberIn, {"e164": fields.get("e164", "").strip(), "senders": senders})
        async with request.app[CONTEXT].database.transaction() as conn:
            await register_number(conn, wanted.e164, [draft_of(sender) for sender in wanted.senders])
    except (Invalid, Conflict) as refusal:
        return await show_numbers(request, viewer, fields, refusal.detail)
    return see_other(request, f"{_URL}/{wanted.e164}", notice="Registered. Services can connect it now.")


async def _senders(conn: Connection, viewer: Viewer, rows: list[Record]) -> list[dict[str, Any]]:
    """Senders with their health: in full for the operator, as services see it for others."""
    if viewer.is_operator:
        views = await view_senders(conn, rows)
    else:
        health = await sender_health.list_views(conn, [row["id"] for row in rows])
        names = ("medium", "provider", "is_active")
        views = [{**{name: row[name] for name in names}, "health": health[row["id"]]} for row in rows]
    for view in views:
        for problem in view["health"]["problems"]:
            problem["cure"] = cure_of(problem["code"]) if viewer.is_operator else None
    return [{"number_id": row["number_id"], **view} for row, view in zip(rows, views, strict=True)]


# One number ----------------------------------------------------------------------------------------------------------


async def connect(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Connect to it, or change what was asked for."""
    try:
        return await connections.connect(request, viewer, fields)
    except (Invalid, Conflict) as refusal:
        return await show_number(request, viewer, fields, refusal.detail)


async def show_number(
    request: web.Request, viewer: Viewer, typed: Fields | None = None, wrong: str | None = None
) -> web.Response:
    """One number: senders, channels, who is on them and how deliveries to them go. A service's people see their own
    channel, and their own connection; with what was `typed` to connect, where that was `wrong`.
    """
    e164 = request.match_info["e164"]
    async with request.app[CONTEXT].database.transaction() as conn:
        number = await roster.find_number(conn, e164)
        senders = await _senders(conn, viewer, await numbers.list_senders(conn, [number["id"]]))
        channels = [
            await _channel(conn, viewer, number, row) for row in await numbers.list_channels(conn, number["id"])
        ]
    seen = [channel for channel in channels if viewer.is_operator or channel["own"]]
    own = next((channel["own"] for channel in seen if channel["own"]), None)
    shared = next((channel for channel in channels if channel["kind"] == "shared"), None)
    return render(
        request, viewer, "number.html", title=e164, number=number, senders=senders, channels=seen, own=own,
        default_share=shared["default_share"] if shared else "none", once=new_once(), media=MEDIA,
        event_types=EVENT_TYPES, connect=f"{_URL}/{e164}/connection", here=f"{_URL}/{e164}", wrong=wrong,
        typed=connections.asked_for(typed) if typed is not None else None, status=422 if wrong else 200,
        page_url=f"{_URL}/{e164}" if wrong else None,
    )  # fmt: skip


async def _channel(conn: Connection, viewer: Viewer, number: Record, row: Record) -> dict[str, Any]:
    found = await roster.read_roster(conn, row["id"], row["kind"], row["parent_epoch"])
    parent = found.parent
    waiting = 0
    if parent and viewer.is_operator:
        waiting = await delivery_desk.count_automation(conn, number["id"], row["id"], parent.service_id)
    members = await _members(conn, viewer, found)
    return {
        "id": public_id("chn", row["id"]),
        "kind": row["kind"],
        "epoch": row["parent_epoch"],
        "default_share": row["default_share"],
        "parent": parent.view() if parent else None,
        "waiting": waiting,
        "members": members,
        "own": next((member for member in members if member["is_own"]), None),
    }


async def _members(conn: Connection, viewer: Viewer, found: Roster) -> list[dict[str, Any]]:
    """Who is on a channel; settings and deliveries of those that the viewer may look into."""
    rows = [row for row in found.members if viewer.is_operator or row["service_id"] == viewer.service_id]
    views = {view["id"]: view for view in await view_deliveries(conn, [row["id"] for row in rows])}
    return [_member(viewer, found, row, views.get(public_id("sub", row["id"]))) for row in found.members]


def _member(viewer: Viewer, found: Roster, row: Record, view: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": public_id("sub", row["id"]),
        "service_id": public_id("svc", row["service_id"]),
        "name": row["name"],
        "role": found.role_of(row["service_id"]),
        "is_own": row["service_id"] == viewer.service_id,
        **{name: row[name] for name in ("state", "paused_at", "paused_reason", "connected_at", "parent_since")},
        "settings": roster.settings_view(row) if view else None,
        "delivery": view["delivery"] if view else None,
    }
