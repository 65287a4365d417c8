"""The operator's look at deliveries to all services: what was attempted, what waits, what was given up (rule G3)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from hub.actions import delivery_view
from hub.actions.delivery_view import NO_SUBSCRIPTION, Mark
from hub.actions.register import OPERATOR
from hub.actions.replay import drop_dead_letters
from hub.domain.errors import Invalid, NotFound
from hub.domain.ids import event_id, parse_id, public_id
from hub.http.answers.admin_deliveries import (
    AnyAttempts,
    AnyDeadLetters,
    AnyParkedPage,
)
from hub.http.answers.deliveries import Dropped
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.deliveries import dead_view, parked_view
from hub.http.operations import operation
from hub.http.params import LIMIT, NUMBER, Parameter, choice, event, identifier, time, word_in_path
from hub.http.problems import answer
from hub.http.schemas import event_number
from hub.store import dead_letters, delivery_health
from hub.store.pool import Record

_FIRST: Final = UUID(int=0)
_TIME: Final = time("before", "")


def _mark(given: str) -> Mark:
    """A time, or what an earlier page gave: the time, event and subscription it ended with. Raises `Refusal`."""
    at, *place = given.split(",")
    if len(place) not in {0, 2}:
        raise Invalid("before is a time, or what an earlier page gave as next")
    number, subscription = _place(place) if place else (0, NO_SUBSCRIPTION)
    return Mark(_TIME.parse(at), number, subscription)


def _place(place: list[str]) -> tuple[int, UUID]:
    number = event_number(place[0])
    if number is None:
        raise Invalid("before is a time, or what an earlier page gave as next")
    return number, parse_id("sub", place[1])


def _event_place(given: str) -> tuple[int, UUID]:
    name, _, subscription = given.partition(",")
    number = event_number(name)
    if number is None:
        raise Invalid("after is what an earlier page gave as next")
    return number, parse_id("sub", subscription)


def _lane_place(given: str) -> tuple[UUID, UUID]:
    lane, _, subscription = given.partition(",")
    return parse_id("lan", lane), parse_id("sub", subscription)


_ID: Final = "[0-9a-f]{32}"
_EVENT_ID: Final = "evt_[0-9a-f]{1,16}"
_MOMENT: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})?)?"
_PAGE_CODES: Final = ("invalid_request", "not_found")
_MARK: Final = Parameter(
    "before",
    "a time, or the `next` of the page before",
    {"type": "string", "pattern": f"^{_MOMENT}(,{_EVENT_ID},sub_{_ID})?$"},
    _mark,
    example="2026-01-31T12:00:00Z",
    codes=_PAGE_CODES,
)
_AFTER_EVENT: Final[Parameter[tuple[int, UUID]]] = Parameter(
    "after",
    "the `next` of the page before",
    {"type": "string", "pattern": f"^{_EVENT_ID},sub_{_ID}$"},
    _event_place,
    default=(0, _FIRST),
    codes=_PAGE_CODES,
)
_AFTER_LANE: Final[Parameter[tuple[UUID, UUID]]] = Parameter(
    "after",
    "the `next` of the page before",
    {"type": "string", "pattern": f"^lan_{_ID},sub_{_ID}$"},
    _lane_place,
    default=(_FIRST, _FIRST),
    codes=_PAGE_CODES,
)
_SERVICE: Final = identifier("svc", "service_id", "of this service alone")
_WHOSE: Final = replace(
    identifier("svc", "service_id", "whose dead letters they are"), is_required=True, codes=_PAGE_CODES
)
_EVENT: Final = event("event_id", "of this event alone")
_OUTCOME: Final = choice("outcome", "of this outcome alone", ("delivered", "refused", "failed", "gone"))
_DEAD: Final = word_in_path("event_id", "the event", "evt_0000000000000042", pattern="^evt_[0-9a-f]{1,16}$")


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, handler in (
        ("GET", "", list_all_deliveries),
        ("GET", "/parked", list_all_parked),
        ("GET", "/dead", list_all_dead),
        ("DELETE", "/dead", drop_dead_of_service),
        ("DELETE", "/dead/{event_id}", drop_one_dead_of_service),
    ):
        app.router.add_route(method, f"/v1/admin/deliveries{path}", operator(handler))


@operation(query=(_SERVICE, NUMBER, _OUTCOME, _EVENT, _MARK, LIMIT), answers={200: AnyAttempts})
async def list_all_deliveries(request: web.Request) -> web.Response:
    """What was attempted for all services that are connected, newest first. A page may be short, even empty, and yet
    have a next one: each looks through a limited part of what was delivered.
    """
    limit, number, outcome = LIMIT.read(request), _EVENT.find(request), _OUTCOME.find(request)
    before = _MARK.find(request) or Mark(datetime.now(UTC), delivery_view.LAST_EVENT)
    async with request.app[CONTEXT].database.reading() as conn:
        hearers = await delivery_health.list_hearers(conn, _SERVICE.find(request), NUMBER.find(request))
        if number is None:
            page = await delivery_view.list_attempts(conn, list(hearers), before, limit, outcome)
        else:
            page = await delivery_view.list_attempts_of(conn, list(hearers), number, before, limit, outcome)
    items = [_attempt(item, hearers[owner]) for item, owner in zip(page.items, page.owners, strict=True)]
    return answer({"items": items, "next": _written(page.next)})


def _attempt(item: Mapping[str, Any], hearer: Record) -> dict[str, Any]:
    return {**item, **_service(hearer), "number": hearer["e164"]}


def _service(row: Record) -> dict[str, Any]:
    return {"service": {"id": public_id("svc", row["service_id"]), "name": row["service_name"]}}


def _written(mark: Mark | None) -> str | None:
    if mark is None:
        return None
    at = f"{mark.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    return f"{at},{event_id(mark.event_id)},{public_id('sub', mark.subscription_id)}"


@operation(query=(_SERVICE, NUMBER, _AFTER_LANE, LIMIT), answers={200: AnyParkedPage})
async def list_all_parked(request: web.Request) -> web.Response:
    """Conversations whose deliveries to some service fail and wait for their next attempt, or are held."""
    limit, (lane, subscription) = LIMIT.read(request), _AFTER_LANE.read(request)
    service_id, e164 = _SERVICE.find(request), NUMBER.find(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await dead_letters.list_parked(conn, service_id, e164, lane, limit, subscription=subscription)
    items = [parked_view(row) | _service(row) for row in rows]
    following = f"{public_id('lan', rows[-1]['lane'])},{_owner(rows[-1])}" if len(rows) == limit else None
    return answer({"items": items, "next": following})


@operation(query=(_SERVICE, NUMBER, _AFTER_EVENT, LIMIT), answers={200: AnyDeadLetters})
async def list_all_dead(request: web.Request) -> web.Response:
    """Events that were given up for some service, by age."""
    limit, (number, subscription) = LIMIT.read(request), _AFTER_EVENT.read(request)
    service_id, e164 = _SERVICE.find(request), NUMBER.find(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await dead_letters.list_dead(conn, service_id, e164, number, limit, subscription=subscription)
    items = [dead_view(row) | _service(row) for row in rows]
    following = f"{event_id(rows[-1]['event_id'])},{_owner(rows[-1])}" if len(rows) == limit else None
    return answer({"items": items, "next": following})


def _owner(row: Record) -> str:
    return public_id("sub", row["subscription_id"])


@operation(path=(_DEAD,), query=(_WHOSE,), answers={204: None})
async def drop_one_dead_of_service(request: web.Request) -> web.Response:
    """Give up one event of a service for good. A conversation that was held for it goes on."""
    context, number, service_id = request.app[CONTEXT], event_number(_DEAD.read(request)), _WHOSE.read(request)
    async with context.database.transaction() as conn:
        if number is None or not await drop_dead_letters(conn, service_id, OPERATOR, number=number):
            raise NotFound("This service has no such dead letter: take one of GET /v1/admin/deliveries/dead.")
    context.refresh()
    return web.Response(status=204)


@operation(query=(_WHOSE, NUMBER), answers={200: Dropped})
async def drop_dead_of_service(request: web.Request) -> web.Response:
    """Give up all dead letters of a service for good, or those of one number."""
    context, service_id, e164 = request.app[CONTEXT], _WHOSE.read(request), NUMBER.find(request)
    async with context.database.transaction() as conn:
        dropped = await drop_dead_letters(conn, service_id, OPERATOR, e164=e164)
    context.refresh()
    return answer({"dropped": dropped})
