"""Deliveries in the console: what was attempted, and what waits (rule G3)."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from hub.actions import delivery_view
from hub.actions.delivery_view import Mark, Page
from hub.domain.errors import Invalid
from hub.domain.ids import event_id, parse_id, public_id
from hub.http.console import dead_letters, replays
from hub.http.console.desks import Desk, find_desk
from hub.http.console.fields import PAGE, asked, next_url
from hub.http.console.pages import page, render
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.http.schemas import event_number, read_time
from hub.store import dead_letters as lanes
from hub.store.pool import Connection, Record

OUTCOMES: Final = ("delivered", "refused", "failed", "gone")
_CHUNKS: Final = 8
"""How much of what was accepted is read for one page: 200 flushes, a tenth of what the API may read."""
_NONE: Final = UUID(int=0)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get("/console/deliveries", page(show_deliveries, "read"))
    app.router.add_get("/console/deliveries/parked", page(show_parked, "read"))
    dead_letters.add_routes(app)
    replays.add_routes(app)


async def show_deliveries(request: web.Request, viewer: Viewer) -> web.Response:
    """How the connections do, and what was attempted, newest first."""
    outcome, event = asked(request, "outcome"), asked(request, "event")
    if outcome not in {None, *OUTCOMES}:
        raise Invalid(f"outcome is one of {', '.join(OUTCOMES)}")
    before = _before(request)
    async with request.app[CONTEXT].database.reading() as conn:
        desk = await find_desk(conn, request, viewer)
        found = await _attempts(conn, desk, event, before, outcome)
    rows = [{**item, "to": desk.of(owner)} for item, owner in zip(found.items, found.owners, strict=True)]
    following = next_url(request, before=_written(found.next)) if found.next else None
    return render(
        request, viewer, "deliveries.html", title="Deliveries", desk=desk, rows=rows, outcome=outcome, event=event,
        outcomes=OUTCOMES, next_url=following, is_later="before" in request.query,
        back_to=found.next.at if found.next and not rows else None,
    )  # fmt: skip


async def _attempts(conn: Connection, desk: Desk, event: str | None, before: Mark, outcome: str | None) -> Page:
    if event is None:
        return await delivery_view.list_attempts(conn, desk.ids, before, PAGE, outcome, most_chunks=_CHUNKS)
    number = event_number(event)
    if number is None:
        raise Invalid("An event is named by its event_id: evt_ and 16 digits, as every delivery has it.")
    return await delivery_view.list_attempts_of(conn, desk.ids, number, before, PAGE, outcome)


def _before(request: web.Request) -> Mark:
    """A place in the list: a time, and the event and the connection that the page before ended with."""
    text = asked(request, "before")
    if text is None:
        return Mark(datetime.now(UTC), delivery_view.LAST_EVENT)
    at, _, rest = text.partition(",")
    event, _, subscription = rest.partition(",")
    number = event_number(event) if event else 0
    if number is None:
        raise Invalid("before is a time, or what an earlier page gave")
    return Mark(read_time("before", at), number, parse_id("sub", subscription) if subscription else _NONE)


def _written(mark: Mark) -> str:
    place = event_id(mark.event_id), public_id("sub", mark.subscription_id)
    return ",".join((f"{mark.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", *place))


async def show_parked(request: web.Request, viewer: Viewer) -> web.Response:
    """Conversations whose deliveries fail and wait for their next attempt, or for somebody."""
    after = parse_id("lan", text) if (text := asked(request, "after")) else _NONE
    rows: list[Record] = []
    async with request.app[CONTEXT].database.reading() as conn:
        desk = await find_desk(conn, request, viewer)
        if desk.service_id is not None:
            rows = await lanes.list_parked(conn, desk.service_id, desk.number, after, PAGE)
    following = next_url(request, after=public_id("lan", rows[-1]["lane"])) if len(rows) == PAGE else None
    return render(
        request, viewer, "parked.html", title="Parked conversations", desk=desk, rows=[_parked(row) for row in rows],
        next_url=following,
    )  # fmt: skip


def _parked(row: Record) -> dict[str, Any]:
    """The lane of a channel's own events is no conversation."""
    is_conversation = row["lane"] != row["channel_id"]
    return {
        "number": row["e164"],
        "conversation_id": public_id("cnv", row["lane"]) if is_conversation else None,
        "event_id": event_id(row["first_event_id"]),
        **{name: row[name] for name in ("attempts", "next_attempt_at", "is_held", "last_error", "parked_at")},
    }
