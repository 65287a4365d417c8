"""Replays: asking for events once more, watching them go, ending one (rules A7, G3)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web

from hub.actions import replay
from hub.actions.replay import Selection
from hub.domain.errors import Conflict, Invalid, NotFound
from hub.domain.ids import parse_id, public_id
from hub.http.console.desks import find_desk, open_desk, service_in
from hub.http.console.fields import PAGE, Fields, asked, given, is_first, new_once, next_url, read_as, time_in
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.rendering import as_time
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.http.schemas import ReplayIn
from hub.store import replays, services
from hub.store.pool import Connection, Record

_URL: Final = "/console/replays"
_WAYS: Final = {"since": ("since", "until"), "events": ("event_ids",), "conversation": (), "failed": ("since", "until")}
"""What a replay is asked for by, and the fields that say which events; each may be narrowed to a conversation."""


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get(_URL, page(show_replays, "read"))
    app.router.add_post(_URL, form(ask_for_replay, "read"))
    app.router.add_get(f"{_URL}/{{id}}", page(show_replay, "read"))
    app.router.add_post(f"{_URL}/{{id}}/cancel", form(cancel, "read"))


async def show_replays(
    request: web.Request, viewer: Viewer, typed: Fields | None = None, wrong: str | None = None
) -> web.Response:
    """Replays newest first, and a form to ask for one; with what was `typed`, where that was `wrong`."""
    before = parse_id("rpl", text) if (text := asked(request, "before")) else None
    async with request.app[CONTEXT].database.reading() as conn:
        if typed is None:
            desk = await find_desk(conn, request, viewer)
        else:
            desk = await open_desk(conn, viewer, service_in(viewer, typed), None)
        rows = await replays.list_replays(conn, desk.service_id, before, PAGE)
        items = [await _view(conn, row) for row in rows]
    following = next_url(request, before=items[-1]["id"]) if len(rows) == PAGE else None
    return render(
        request, viewer, "replays.html", title="Replays", desk=desk, rows=items, next_url=following, once=new_once(),
        typed=typed or _linked(request), wrong=wrong, status=422 if wrong else 200,
    )  # fmt: skip


def _linked(request: web.Request) -> Fields:
    """What a link to the form fills in: events, or a conversation."""
    events, conversation = asked(request, "events") or "", asked(request, "conversation") or ""
    way = "events" if events else "conversation" if conversation else "since"
    return {"way": way, "event_ids": events, "conversation": conversation}


async def show_replay(request: web.Request, viewer: Viewer) -> web.Response:
    """How one replay goes."""
    replay_id = parse_id("rpl", request.match_info["id"])
    async with request.app[CONTEXT].database.reading() as conn:
        await replay.view_replay(conn, viewer.service_id, replay_id)
        row = await replays.find_replay(conn, viewer.service_id, replay_id)
        assert row is not None
        item = await _view(conn, row)
    return render(request, viewer, "replay.html", title="Replay", replay=item)


async def _view(conn: Connection, row: Record) -> dict[str, Any]:
    """A replay for people; progress counts the parts of the log that it goes through."""
    view = replay.replay_view(row)
    service = await services.find_service(conn, row["service_id"])
    return {
        **{
            name: view[name]
            for name in ("id", "service_id", "number", "state", "asked_by", "created_at", "finished_at")
        },
        "service_name": service["name"] if service else "a removed service",
        "subscription_id": public_id("sub", row["subscription_id"]),
        "what": in_words(orjson.loads(row["selection"])),
        "delivered": row["delivered"],
        "failed": row["failed"],
        "shards": row["shards"],
        "done": row["shards"] - row["shards_left"],
    }


def in_words(selection: Mapping[str, Any]) -> str:
    """Which events a replay was asked for."""
    ids = selection.get("event_ids")
    named = len(ids) if isinstance(ids, list) else ids
    parts = []
    if named is not None:
        parts.append(f"{named} named event{'s' if named != 1 else ''}")
    if selection.get("failed"):
        parts.append("all that were given up")
    if "from_event_id" in selection:
        parts.append(f"from {selection['from_event_id']} to {selection.get('to_event_id', 'the newest')}")
    spans = [name for name in ("since", "until") if name in selection]
    parts += [f"{name} {as_time(selection[name]):%d %b %Y %H:%M:%S} UTC" for name in spans]
    if not parts:
        parts.append("everything the log has")
    if "conversation_id" in selection:
        parts.append(f"of conversation {selection['conversation_id']}")
    if selection.get("expired_events"):
        parts.append(f"without {selection['expired_events']} that the log no longer holds")
    return ", ".join(parts)


async def ask_for_replay(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Have events delivered once more, by what the form says."""
    try:
        return await _ask_for_replay(request, viewer, fields)
    except (Invalid, NotFound, Conflict) as refusal:
        return await show_replays(request, viewer, fields, refusal.detail)


async def _ask_for_replay(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    context, service_id = request.app[CONTEXT], service_in(viewer, fields)
    wanted = _wanted(fields)
    selection = Selection(
        event_ids=wanted.event_ids,
        since=wanted.since,
        until=wanted.until,
        is_failed=wanted.failed,
        conversation_id=parse_id("cnv", wanted.conversation_id) if wanted.conversation_id else None,
    )
    async with context.database.transaction() as conn:
        if not await is_first(conn, viewer, fields):
            return see_other(request, _URL, notice="This replay was asked for already.")
        view = await replay.request_replay(conn, service_id, wanted.number, selection, viewer.actor, datetime.now(UTC))
    context.refresh()
    return see_other(request, f"{_URL}/{view['id']}", notice="Asked for: the events come in their own time.")


def _wanted(fields: Fields) -> ReplayIn:
    """The form as the API has it. Raises `Invalid`."""
    way = fields.get("way", "")
    if way not in _WAYS:
        raise Invalid("Say by what: a time, event ids, a conversation, or what was given up.")
    values: dict[str, Any] = {"number": given(fields, "number"), "conversation_id": given(fields, "conversation")}
    for name in _WAYS[way]:
        values[name] = fields.get(name, "").split() if name == "event_ids" else time_in(fields, name)
    if way == "failed":
        values["failed"] = True
    if way == "since" and values["since"] is None:
        raise Invalid("Say since when: the replay begins with the first event of that time.")
    if way == "conversation" and values["conversation_id"] is None:
        raise Invalid("Name the conversation: cnv_ and 32 digits.")
    return read_as(ReplayIn, values)


async def cancel(request: web.Request, viewer: Viewer, _: Fields) -> web.Response:
    """End a replay; what it delivered stays delivered."""
    context, replay_id = request.app[CONTEXT], parse_id("rpl", request.match_info["id"])
    async with context.database.transaction() as conn:
        view = await replay.cancel_replay(conn, viewer.service_id, replay_id, viewer.actor, datetime.now(UTC))
    context.refresh()
    notice = "Cancelled: nothing more of it is delivered." if view["state"] == "cancelled" else "It had ended already."
    return see_other(request, f"{_URL}/{public_id('rpl', replay_id)}", notice=notice)
