"""The adapter API: conversations and their timelines (rules C1 to C3, D1 to D4)."""

from typing import Final
from uuid import UUID

from aiohttp import web

from hub.actions.look import Span, TimeSpan, out_of_reach, read_messages
from hub.actions.roster import Caller
from hub.actions.timeline import view_conversations
from hub.domain.errors import Invalid
from hub.domain.ids import parse_id
from hub.domain.time_places import END, START, decode
from hub.http.auth import service
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import limit_of, number_of, one_way
from hub.store import conversations
from hub.store.pool import Connection, Record

_NONE: Final = UUID(int=0)
_LOWEST: Final = -(2**62)
_HIGHEST: Final = 2**62
_FLAGS: Final = {"true": True, "false": False}


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    conversation = "/v1/conversations/{id}"
    app.router.add_get("/v1/conversations", service(list_conversations, "read"))
    app.router.add_get(conversation, service(get_conversation, "read"))
    app.router.add_get(f"{conversation}/messages", service(list_messages, "read"))


async def list_conversations(request: web.Request, caller: Caller) -> web.Response:
    """Conversations of the channels this service is on, by age; with `waiting=true` those that wait for it (D4)."""
    limit, is_waiting = limit_of(request), _FLAGS.get(request.query.get("waiting", "false"))
    if is_waiting is None:
        raise Invalid("waiting is true (what was passed to this service, rule D4) or false")
    after = parse_id("cnv", request.query["after"]) if "after" in request.query else _NONE
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await conversations.list_in_reach(conn, caller.service_id, after, limit, is_waiting=is_waiting)
        items = await view_conversations(conn, caller.service_id, rows)
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


async def get_conversation(request: web.Request, caller: Caller) -> web.Response:
    """One conversation."""
    async with request.app[CONTEXT].database.transaction() as conn:
        reached = await _reach(conn, request, caller)
        return answer((await view_conversations(conn, caller.service_id, [reached]))[0])


async def _reach(conn: Connection, request: web.Request, caller: Caller) -> Record:
    conversation_id = parse_id("cnv", request.match_info["id"])
    row = await conversations.find_in_reach(conn, conversation_id, caller.service_id)
    if row is None:
        raise out_of_reach()
    return row


async def list_messages(request: web.Request, caller: Caller) -> web.Response:
    """The timeline: newest first (`before=`), or from a place on (`after=`), by sequence number or by the provider's
    time, masked per rule C; and who holds the conversation.
    """
    span = span_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        reached = await _reach(conn, request, caller)
        items, following = await read_messages(conn, request.app[CONTEXT].view(caller.service_id), reached["id"], span)
        views = await view_conversations(conn, caller.service_id, [reached])
    return answer({"items": items, "next": following, "conversation": views[0]})


def span_of(request: web.Request) -> Span | TimeSpan:
    """Which part of a timeline is asked for, and sorted by what. Raises `Invalid`."""
    one_way(request)
    query, limit = request.query, limit_of(request)
    match query.get("sort", "sequence"):
        case "sequence":
            after = number_of(request, "after", default=0, low=_LOWEST) if "after" in query else None
            return Span(after, number_of(request, "before", default=_HIGHEST, low=_LOWEST), limit)
        case "provider_time":
            is_forward = "after" in query
            cursor = query.get("after") or query.get("before")
            place = START if is_forward else END
            return TimeSpan(decode(cursor) if cursor not in {None, "", "0"} else place, limit, is_forward)
        case _:
            raise Invalid("sort is sequence, the order of acceptance, or provider_time (rule B6)")
