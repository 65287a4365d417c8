"""Deliveries over the API: what was attempted, what was given up, and having it once more (rule G3)."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from hub.actions import delivery_view, replay
from hub.actions.delivery_view import Mark
from hub.actions.register import OPERATOR
from hub.actions.replay import Selection
from hub.actions.roster import Caller
from hub.domain.errors import Invalid, NotFound
from hub.domain.ids import event_id, parse_id, public_id
from hub.http.answers import deliveries as answers
from hub.http.auth import operator, service
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import (
    LIMIT,
    NUMBER,
    Parameter,
    after_id,
    before_id,
    choice,
    event,
    identifier,
    in_path,
    time,
    word_in_path,
)
from hub.http.problems import answer
from hub.http.schemas import ReplayForIn, ReplayIn, event_number, read_json
from hub.store import dead_letters, replays, subscriptions
from hub.store.pool import Connection, Record

_TIME = time("before", "")


def _mark(given: str) -> Mark:
    """A time, or what an earlier page gave as `next`: the time and the event it ended with. Raises `Invalid`."""
    text, _, name = given.partition(",")
    number = event_number(name) if name else 0
    if number is None:
        raise Invalid("before is a time, or what an earlier page gave as next")
    return Mark(_TIME.parse(text), number)


_MARK = Parameter("before", "a time, or the `next` of the page before", {"type": "string"}, _mark)
_EVENT = event("event_id", "of this event alone")
_OUTCOME = choice("outcome", "of this outcome alone", ("delivered", "refused", "failed", "gone"))
_AFTER_LANE = after_id("lan")
_AFTER_EVENT = event("after", "the `next` of the page before")
_DEAD = word_in_path("event_id", "the event", "evt_0000000000000042", pattern="^evt_[0-9a-f]{1,16}$")
_BEFORE = before_id("rpl")
_REPLAY = in_path("rpl", "the replay")
_SERVICE = identifier("svc", "service_id", "of this service alone")
_REFUSALS = ("not_connected", "no_endpoint", "events_expired", "number_required", "too_many_events", "not_found")


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get("/v1/deliveries", service(list_deliveries, "read"))
    app.router.add_get("/v1/deliveries/parked", service(list_parked, "read"))
    app.router.add_get("/v1/deliveries/dead", service(list_dead, "read"))
    app.router.add_delete("/v1/deliveries/dead", service(drop_all_dead, "read"))
    app.router.add_delete("/v1/deliveries/dead/{event_id}", service(drop_dead, "read"))
    app.router.add_post("/v1/replays", service(post_replay, "read"))
    app.router.add_get("/v1/replays", service(list_replays, "read"))
    app.router.add_get("/v1/replays/{id}", service(get_replay, "read"))
    app.router.add_delete("/v1/replays/{id}", service(cancel_replay, "read"))
    app.router.add_post("/v1/admin/replays", operator(post_replay_for))
    app.router.add_get("/v1/admin/replays", operator(list_all_replays))
    app.router.add_get("/v1/admin/replays/{id}", operator(get_any_replay))
    app.router.add_delete("/v1/admin/replays/{id}", operator(cancel_any_replay))


# What was attempted -------------------------------------------------------------------------------------------------


@operation(query=(_MARK, LIMIT, _EVENT, NUMBER, _OUTCOME), answers={200: answers.Attempts})
async def list_deliveries(request: web.Request, caller: Caller) -> web.Response:
    """What was attempted for this service, newest first; of one event, one number or one outcome if asked."""
    limit, number, outcome = LIMIT.read(request), _EVENT.find(request), _OUTCOME.find(request)
    before = _MARK.find(request) or Mark(datetime.now(UTC), delivery_view.LAST_EVENT)
    async with request.app[CONTEXT].database.reading() as conn:
        own = await _own(conn, request, caller)
        if number is None:
            page = await delivery_view.list_attempts(conn, own, before, limit, outcome)
        else:
            page = await delivery_view.list_attempts_of(conn, own, number, before, limit, outcome)
    return answer({"items": page.items, "next": _written(page.next)})


async def _own(conn: Connection, request: web.Request, caller: Caller) -> list[UUID]:
    """The service's subscriptions, on the number that was asked for or on all."""
    e164 = NUMBER.find(request)
    rows = await subscriptions.list_of_service(conn, caller.service_id)
    return [row["id"] for row in rows if e164 in {None, row["e164"]}]


def _written(mark: Mark | None) -> str | None:
    return f"{mark.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ},{event_id(mark.event_id)}" if mark else None


# What failed --------------------------------------------------------------------------------------------------------


@operation(query=(_AFTER_LANE, LIMIT, NUMBER), answers={200: answers.ParkedPage})
async def list_parked(request: web.Request, caller: Caller) -> web.Response:
    """Conversations whose deliveries fail and wait for their next attempt, or are held."""
    limit, e164, after = LIMIT.read(request), NUMBER.find(request), _AFTER_LANE.read(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await dead_letters.list_parked(conn, caller.service_id, e164, after, limit)
    items = [parked_view(row) for row in rows]
    return answer({"items": items, "next": public_id("lan", rows[-1]["lane"]) if len(rows) == limit else None})


def parked_view(row: Record) -> dict[str, Any]:
    """The lane of a channel's own events is no conversation."""
    is_conversation = row["lane"] != row["channel_id"]
    return {
        "number": row["e164"],
        "conversation_id": public_id("cnv", row["lane"]) if is_conversation else None,
        "first_event_id": event_id(row["first_event_id"]),
        "attempts": row["attempts"],
        "next_attempt_at": row["next_attempt_at"],
        "held": row["is_held"],
        "last_error": row["last_error"],
        "parked_at": row["parked_at"],
    }


@operation(query=(_AFTER_EVENT, LIMIT, NUMBER), answers={200: answers.DeadLetters})
async def list_dead(request: web.Request, caller: Caller) -> web.Response:
    """Events that were given up, by age."""
    limit, e164, after = LIMIT.read(request), NUMBER.find(request), _AFTER_EVENT.find(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await dead_letters.list_dead(conn, caller.service_id, e164, after or 0, limit)
    items = [dead_view(row) for row in rows]
    return answer({"items": items, "next": items[-1]["event_id"] if len(rows) == limit else None})


def dead_view(row: Record) -> dict[str, Any]:
    """An event that the log has dropped is an id without a type."""
    return {
        "event_id": event_id(row["event_id"]),
        "type": row["type"],
        "timestamp": row["event_at"],
        "number": row["e164"],
        "conversation_id": public_id("cnv", row["conversation_id"]) if row["conversation_id"] else None,
        "attempts": row["attempts"],
        "last_error": row["last_error"],
        "at": row["at"],
        "holds_conversation": row["is_held"],
    }


@operation(path=(_DEAD,), answers={204: None})
async def drop_dead(request: web.Request, caller: Caller) -> web.Response:
    """Give up one event for good."""
    context, number = request.app[CONTEXT], event_number(_DEAD.read(request))
    async with context.database.transaction() as conn:
        if number is None or not await replay.drop_dead_letters(conn, caller.service_id, caller.actor, number=number):
            raise NotFound("there is no such dead letter")
    context.refresh()
    return web.Response(status=204)


@operation(query=(NUMBER,), answers={200: answers.Dropped})
async def drop_all_dead(request: web.Request, caller: Caller) -> web.Response:
    """Give up all of the service's dead letters for good, or those of one number."""
    context, e164 = request.app[CONTEXT], NUMBER.find(request)
    async with context.database.transaction() as conn:
        dropped = await replay.drop_dead_letters(conn, caller.service_id, caller.actor, e164=e164)
    context.refresh()
    return answer({"dropped": dropped})


# Replays ------------------------------------------------------------------------------------------------------------


@operation(body=ReplayIn, answers={202: answers.Replay}, codes=_REFUSALS)
async def post_replay(request: web.Request, caller: Caller) -> web.Response:
    """Have events delivered once more; 202, they come in their own time."""
    wanted = ReplayIn.model_validate((await read_json(request))[1])
    return await _request_replay(request, caller.service_id, wanted, caller.actor)


@operation(body=ReplayForIn, answers={202: answers.Replay}, codes=_REFUSALS)
async def post_replay_for(request: web.Request) -> web.Response:
    """The same for any service."""
    wanted = ReplayForIn.model_validate((await read_json(request))[1])
    return await _request_replay(request, parse_id("svc", wanted.service_id), wanted, OPERATOR)


async def _request_replay(request: web.Request, service_id: UUID, wanted: ReplayIn, actor: str) -> web.Response:
    context, now = request.app[CONTEXT], datetime.now(UTC)
    selection = Selection(
        event_ids=wanted.event_ids,
        first=wanted.from_event_id,
        last=wanted.to_event_id,
        since=wanted.since,
        until=wanted.until,
        is_failed=wanted.failed,
        conversation_id=parse_id("cnv", wanted.conversation_id) if wanted.conversation_id else None,
    )
    async with context.database.transaction() as conn:
        view = await replay.request_replay(conn, service_id, wanted.number, selection, actor, now)
    context.refresh()
    return answer(view, status=202)


@operation(query=(_BEFORE, LIMIT), answers={200: answers.Replays})
async def list_replays(request: web.Request, caller: Caller) -> web.Response:
    """The service's replays, newest first."""
    return await _list(request, caller.service_id)


@operation(query=(_BEFORE, LIMIT, _SERVICE), answers={200: answers.Replays})
async def list_all_replays(request: web.Request) -> web.Response:
    """All replays, or those of one service, newest first."""
    return await _list(request, _SERVICE.find(request))


async def _list(request: web.Request, service_id: UUID | None) -> web.Response:
    limit, before = LIMIT.read(request), _BEFORE.find(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await replays.list_replays(conn, service_id, before, limit)
    items = [replay.replay_view(row) for row in rows]
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


@operation(path=(_REPLAY,), answers={200: answers.Replay})
async def get_replay(request: web.Request, caller: Caller) -> web.Response:
    """One replay of the service."""
    return await _get(request, caller.service_id)


@operation(path=(_REPLAY,), answers={200: answers.Replay})
async def get_any_replay(request: web.Request) -> web.Response:
    """One replay."""
    return await _get(request, None)


async def _get(request: web.Request, service_id: UUID | None) -> web.Response:
    async with request.app[CONTEXT].database.reading() as conn:
        return answer(await replay.view_replay(conn, service_id, _REPLAY.read(request)))


@operation(path=(_REPLAY,), answers={200: answers.Replay})
async def cancel_replay(request: web.Request, caller: Caller) -> web.Response:
    """End a replay of the service."""
    return await _cancel(request, caller.service_id, caller.actor)


@operation(path=(_REPLAY,), answers={200: answers.Replay})
async def cancel_any_replay(request: web.Request) -> web.Response:
    """End a replay."""
    return await _cancel(request, None, OPERATOR)


async def _cancel(request: web.Request, service_id: UUID | None, actor: str) -> web.Response:
    context, replay_id = request.app[CONTEXT], _REPLAY.read(request)
    async with context.database.transaction() as conn:
        view = await replay.cancel_replay(conn, service_id, replay_id, actor, datetime.now(UTC))
    context.refresh()
    return answer(view)
