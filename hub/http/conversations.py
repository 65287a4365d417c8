"""The adapter API: conversations and their timelines (rules C1 to C3, D1 to D4)."""

from typing import Final

from aiohttp import web

from hub.actions.look import Span, TimeSpan, out_of_reach, read_messages
from hub.actions.roster import Caller
from hub.actions.timeline import view_conversations
from hub.domain.errors import Invalid
from hub.domain.time_places import END, START, decode
from hub.http.answers import messages as answers
from hub.http.auth import service
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import CONVERSATION, LIMIT, Parameter, after_id, choice, flag, integer
from hub.http.problems import answer
from hub.store import conversations
from hub.store.pool import Connection, Record

_LOWEST: Final = -(2**62)
_HIGHEST: Final = 2**62
_AFTER: Final = after_id("cnv")
_WAITING: Final = flag("waiting", "what was passed to this service (rule D4), and nothing else")
_SORT: Final = choice(
    "sort",
    "`sequence`, the order of acceptance, or `provider_time` (rule B6)",
    ("sequence", "provider_time"),
    default="sequence",
)
_PLACE: Final = "a sequence number; with `sort=provider_time` the `next` of the page before"
_BEFORE_NUMBER: Final = integer("before", "", default=_HIGHEST, low=_LOWEST)
_AFTER_NUMBER: Final = integer("after", "", low=_LOWEST)
_PLACE_SCHEMA: Final = {"type": "string"}
_BEFORE_PLACE: Final = Parameter("before", f"older messages, newest first: {_PLACE}", _PLACE_SCHEMA, str)
_AFTER_PLACE: Final = Parameter("after", f"newer ones, oldest first: {_PLACE}; `0`: from the first", _PLACE_SCHEMA, str)
SPAN: Final = (_BEFORE_PLACE, _AFTER_PLACE, _SORT, LIMIT)
"""What `span_of` reads."""


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    conversation = "/v1/conversations/{id}"
    app.router.add_get("/v1/conversations", service(list_conversations, "read"))
    app.router.add_get(conversation, service(get_conversation, "read"))
    app.router.add_get(f"{conversation}/messages", service(list_messages, "read"))


@operation(query=(_AFTER, LIMIT, _WAITING), answers={200: answers.Conversations})
async def list_conversations(request: web.Request, caller: Caller) -> web.Response:
    """Conversations of the channels this service is on, by age; with `waiting=true` those that wait for it (D4)."""
    limit, is_waiting, after = LIMIT.read(request), _WAITING.read(request), _AFTER.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await conversations.list_in_reach(conn, caller.service_id, after, limit, is_waiting=is_waiting)
        items = await view_conversations(conn, caller.service_id, rows)
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


@operation(path=(CONVERSATION,), answers={200: answers.Conversation})
async def get_conversation(request: web.Request, caller: Caller) -> web.Response:
    """One conversation."""
    async with request.app[CONTEXT].database.transaction() as conn:
        reached = await _reach(conn, request, caller)
        return answer((await view_conversations(conn, caller.service_id, [reached]))[0])


async def _reach(conn: Connection, request: web.Request, caller: Caller) -> Record:
    conversation_id = CONVERSATION.read(request)
    row = await conversations.find_in_reach(conn, conversation_id, caller.service_id)
    if row is None:
        raise out_of_reach()
    return row


@operation(path=(CONVERSATION,), query=SPAN, answers={200: answers.Timeline}, codes=("invalid_cursor",))
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
    before, after, limit = _BEFORE_PLACE.find(request), _AFTER_PLACE.find(request), LIMIT.read(request)
    if before is not None and after is not None:
        raise Invalid("before reads older messages, after newer ones: not both (rule C3)")
    if _SORT.read(request) == "sequence":
        return Span(_AFTER_NUMBER.find(request), _BEFORE_NUMBER.read(request), limit)
    is_forward, cursor = after is not None, after or before
    place = START if is_forward else END
    return TimeSpan(decode(cursor) if cursor not in {None, "", "0"} else place, limit, is_forward)
