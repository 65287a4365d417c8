"""The operator's look at conversations: masked as for a service that nobody shares with, in full for a reason (C2)."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import BeforeValidator, Field, StringConstraints

from hub.actions.look import read_messages, view_messages
from hub.actions.reveal import mask_event, reveal_events, reveal_message
from hub.actions.timeline import view_conversations
from hub.domain.errors import Invalid, NotFound
from hub.domain.events import EVENT_TYPES, Event
from hub.domain.ids import event_id, public_id
from hub.http.answers import admin_messages as views
from hub.http.answers.messages import Conversation, Conversations, Timeline
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.conversations import SPAN, span_of
from hub.http.operations import operation
from hub.http.params import CONVERSATION, LIMIT, MESSAGE, NUMBER, after_id, choice, event, flag, identifier
from hub.http.problems import answer
from hub.http.schemas import EventNumber, Model, clean, read_json
from hub.store import event_log, event_search, messages, overview
from hub.store.event_search import EventFilter
from hub.store.pool import Connection, Record

_AFTER: Final = after_id("cnv")
_AFTER_EVENT: Final = event("after", "the `next` of the page before: the `event_id` of an earlier event")
_BEFORE_EVENT: Final = event("before", "older ones, newest first: the `next` of the page before")
_NEWEST: Final = flag("newest", "begin with the newest; pages follow by `before`")
_TYPE: Final = choice("type", "of this type alone", EVENT_TYPES)
_CONVERSATION: Final = identifier("cnv", "conversation_id", "of this conversation alone")
_LAST: Final = 2**63 - 1
Reason = Annotated[str, StringConstraints(min_length=3, max_length=500, strip_whitespace=True), BeforeValidator(clean)]


class RevealIn(Model):
    """Why a message is to be seen in full."""

    reason: Reason = Field(description="Kept in the audit trail.", examples=["complaint 4711"])


class RevealEventsIn(RevealIn):
    """Why, and which part of the log."""

    after: EventNumber = 0
    limit: int = Field(default=50, ge=1, le=200, strict=True)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, handler in (
        ("GET", "events", list_all_events),
        ("POST", "events/reveal", post_events_reveal),
        ("GET", "conversations", list_all_conversations),
        ("GET", "conversations/{id}", get_any_conversation),
        ("GET", "conversations/{id}/messages", list_any_messages),
        ("GET", "messages/{id}", get_any_message),
        ("POST", "messages/{id}/reveal", post_message_reveal),
    ):
        app.router.add_route(method, f"/v1/admin/{path}", operator(handler))


@operation(
    query=(_TYPE, NUMBER, _CONVERSATION, _NEWEST, _BEFORE_EVENT, _AFTER_EVENT, LIMIT),
    answers={200: views.LoggedEvents},
)
async def list_all_events(request: web.Request) -> web.Response:
    """The event log of all channels, the oldest first, or the newest. What services wrote is masked. With filters a
    page may be short, even empty, and yet have a next one: each looks through a part of the log.
    """
    wanted = EventFilter(_TYPE.find(request), NUMBER.find(request), _CONVERSATION.find(request))
    after, before, limit = _AFTER_EVENT.find(request), _BEFORE_EVENT.find(request), LIMIT.read(request)
    is_back = _NEWEST.read(request) or before is not None
    if after is not None and is_back:
        raise Invalid("after goes on with what is newer; newest and before begin with that: not both")
    place = (_LAST if before is None else before) if is_back else after or 0
    async with request.app[CONTEXT].database.reading() as conn:
        events, following = await event_search.search(conn, place, wanted, limit, is_back=is_back)
    links = request.app[CONTEXT].media_links
    items = _items(events, [mask_event(event, links) for event in events])
    return answer({"items": items, "next": None if following is None else event_id(following)})


@operation(body=RevealEventsIn, answers={200: views.LoggedEvents})
async def post_events_reveal(request: web.Request) -> web.Response:
    """Part of the event log in full, for a reason that is written down."""
    wanted = RevealEventsIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        events = await event_log.list_recent(conn, wanted.after, wanted.limit)
        views = await reveal_events(conn, events, wanted.reason, request.app[CONTEXT].media_links)
    items = _items(events, views)
    return answer({"items": items, "next": items[-1]["event_id"] if len(items) == wanted.limit else None})


def _items(events: Sequence[Event], views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"event_id": event_id(event.id), "type": event.type, "timestamp": event.at, "data": view}
        for event, view in zip(events, views, strict=True)
    ]


@operation(query=(NUMBER, _AFTER, LIMIT), answers={200: Conversations})
async def list_all_conversations(request: web.Request) -> web.Response:
    """Conversations of all channels by age, or of one number's."""
    limit, e164, after = LIMIT.read(request), NUMBER.find(request), _AFTER.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await overview.list_conversations(conn, after, limit, e164)
        items = await view_conversations(conn, None, rows)
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


@operation(path=(CONVERSATION,), answers={200: Conversation})
async def get_any_conversation(request: web.Request) -> web.Response:
    """Any conversation."""
    async with request.app[CONTEXT].database.transaction() as conn:
        (view,) = await view_conversations(conn, None, [await _find_conversation(conn, request)])
    return answer(view)


@operation(path=(CONVERSATION,), query=SPAN, answers={200: Timeline}, codes=("invalid_cursor",))
async def list_any_messages(request: web.Request) -> web.Response:
    """The timeline of any conversation, as services page through theirs. Masked where one of them wrote."""
    span = span_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        found = await _find_conversation(conn, request)
        items, following = await read_messages(conn, request.app[CONTEXT].view(None), found["id"], span)
        (view,) = await view_conversations(conn, None, [found])
    return answer({"items": items, "next": following, "conversation": view})


async def _find_conversation(conn: Connection, request: web.Request) -> Record:
    row = await overview.find_conversation(conn, CONVERSATION.read(request))
    if row is None:
        raise NotFound("There is no such conversation: take an id of GET /v1/admin/conversations.")
    return row


@operation(path=(MESSAGE,), answers={200: views.PlacedMessage | views.PlacedMasked})
async def get_any_message(request: web.Request) -> web.Response:
    """One message of any channel, masked where a service wrote it."""
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await _find_message(conn, request)
        (view,) = await view_messages(conn, request.app[CONTEXT].view(None), [row])
    return answer(_placed(view, row))


@operation(path=(MESSAGE,), body=RevealIn, answers={200: views.PlacedMessage})
async def post_message_reveal(request: web.Request) -> web.Response:
    """Any message in full, for a reason that is written down."""
    wanted = RevealIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await _find_message(conn, request)
        view = await reveal_message(conn, row, wanted.reason, request.app[CONTEXT].media_links)
    return answer(_placed(view, row))


async def _find_message(conn: Connection, request: web.Request) -> Record:
    row = await messages.find_message(conn, MESSAGE.read(request))
    if row is None:
        raise NotFound("There is no such message: take an id of a conversation's messages.")
    return row


def _placed(view: dict[str, Any], row: Record) -> dict[str, Any]:
    return {
        **view,
        "conversation_id": public_id("cnv", row["conversation_id"]),
        "channel_id": public_id("chn", row["channel_id"]),
    }
