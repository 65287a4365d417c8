"""The operator's look at conversations: masked as for a service that nobody shares with, in full for a reason (C2)."""

from typing import Annotated, Any, Final
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, Field, StringConstraints

from hub.actions.look import read_messages, view_messages
from hub.actions.reveal import mask_event, reveal_events, reveal_message
from hub.actions.timeline import view_conversations
from hub.domain.errors import Invalid, NotFound
from hub.domain.events import Event
from hub.domain.ids import event_id, parse_id, public_id
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.conversations import span_of
from hub.http.problems import answer
from hub.http.schemas import EventNumber, Model, clean, event_number, limit_of, phone_of, read_json
from hub.store import event_log, messages, overview
from hub.store.pool import Connection, Record

_NONE: Final = UUID(int=0)
Reason = Annotated[str, StringConstraints(min_length=3, max_length=500, strip_whitespace=True), BeforeValidator(clean)]


class RevealIn(Model):
    """Why a message is to be seen in full."""

    reason: Reason


class RevealEventsIn(RevealIn):
    """Why, and which part of the log."""

    after: EventNumber = 0
    limit: int = Field(default=50, ge=1, le=200)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, handler in (
        ("GET", "events", list_events),
        ("POST", "events/reveal", post_events_reveal),
        ("GET", "conversations", list_conversations),
        ("GET", "conversations/{id}", get_conversation),
        ("GET", "conversations/{id}/messages", list_messages),
        ("GET", "messages/{id}", get_message),
        ("POST", "messages/{id}/reveal", post_reveal),
    ):
        app.router.add_route(method, f"/v1/admin/{path}", operator(handler))


async def list_events(request: web.Request) -> web.Response:
    """The event log of all channels, masked."""
    after, limit = event_number(request.query.get("after", "evt_0")), limit_of(request)
    if after is None:
        raise Invalid("after is the event_id of an earlier event")
    async with request.app[CONTEXT].database.reading() as conn:
        events = await event_log.list_recent(conn, after, limit)
    links = request.app[CONTEXT].media_links
    return _page(events, [mask_event(event, links) for event in events], limit)


async def post_events_reveal(request: web.Request) -> web.Response:
    """The same in full, for a reason that is written down."""
    wanted = RevealEventsIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        events = await event_log.list_recent(conn, wanted.after, wanted.limit)
        views = await reveal_events(conn, events, wanted.reason, request.app[CONTEXT].media_links)
    return _page(events, views, wanted.limit)


def _page(events: list[Event], views: list[dict[str, Any]], limit: int) -> web.Response:
    items = [
        {"event_id": event_id(event.id), "type": event.type, "timestamp": event.at, "data": view}
        for event, view in zip(events, views, strict=True)
    ]
    return answer({"items": items, "next": items[-1]["event_id"] if len(items) == limit else None})


async def list_conversations(request: web.Request) -> web.Response:
    """Conversations of all channels by age, or of one number's."""
    limit, e164 = limit_of(request), phone_of(request, "number")
    after = parse_id("cnv", request.query["after"]) if "after" in request.query else _NONE
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await overview.list_conversations(conn, after, limit, e164)
        items = await view_conversations(conn, None, rows)
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


async def get_conversation(request: web.Request) -> web.Response:
    """One conversation."""
    async with request.app[CONTEXT].database.transaction() as conn:
        (view,) = await view_conversations(conn, None, [await _find_conversation(conn, request)])
    return answer(view)


async def list_messages(request: web.Request) -> web.Response:
    """Its timeline, as services page through theirs, and masked where one of them wrote."""
    span = span_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        found = await _find_conversation(conn, request)
        items, following = await read_messages(conn, request.app[CONTEXT].view(None), found["id"], span)
        (view,) = await view_conversations(conn, None, [found])
    return answer({"items": items, "next": following, "conversation": view})


async def _find_conversation(conn: Connection, request: web.Request) -> Record:
    row = await overview.find_conversation(conn, parse_id("cnv", request.match_info["id"]))
    if row is None:
        raise NotFound("There is no such conversation: take an id of GET /v1/admin/conversations.")
    return row


async def get_message(request: web.Request) -> web.Response:
    """One message of any channel, masked where a service wrote it."""
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await _find_message(conn, request)
        (view,) = await view_messages(conn, request.app[CONTEXT].view(None), [row])
    return answer(_placed(view, row))


async def post_reveal(request: web.Request) -> web.Response:
    """The same in full, for a reason that is written down."""
    wanted = RevealIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await _find_message(conn, request)
        view = await reveal_message(conn, row, wanted.reason, request.app[CONTEXT].media_links)
    return answer(_placed(view, row))


async def _find_message(conn: Connection, request: web.Request) -> Record:
    row = await messages.find_message(conn, parse_id("msg", request.match_info["id"]))
    if row is None:
        raise NotFound("There is no such message: take an id of a conversation's messages.")
    return row


def _placed(view: dict[str, Any], row: Record) -> dict[str, Any]:
    return {
        **view,
        "conversation_id": public_id("cnv", row["conversation_id"]),
        "channel_id": public_id("chn", row["channel_id"]),
    }
