"""Events that were given up: having them once more, or dropping them for good (rule G3)."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from hub.actions.replay import Selection, drop_dead_letters, request_replay
from hub.domain.errors import Invalid
from hub.domain.ids import event_id, public_id
from hub.http.console.desks import Desk, find_desk, open_desk, service_in
from hub.http.console.fields import PAGE, Fields, asked, given, is_first, new_once, next_url, ticked
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.http.schemas import event_number
from hub.store import dead_letters
from hub.store.pool import Connection, Record

_BOX: Final = "dead "
"""How the names of the boxes begin; number and event follow."""
_URL: Final = "/console/dead-letters"


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get(_URL, page(show_dead, "read"))
    app.router.add_post(f"{_URL}/replay", form(replay_dead, "read"))
    app.router.add_post(f"{_URL}/drop", form(drop_dead, "read"))


async def show_dead(request: web.Request, viewer: Viewer) -> web.Response:
    """What was given up for a service, by age; for the operator first, of whom how much."""
    after = event_number(text) if (text := asked(request, "after")) else 0
    rows: list[Record] = []
    async with request.app[CONTEXT].database.reading() as conn:
        desk = await find_desk(conn, request, viewer)
        if desk.service_id is not None:
            rows = await dead_letters.list_dead(conn, desk.service_id, desk.number, after or 0, PAGE)
    following = next_url(request, after=event_id(rows[-1]["event_id"])) if len(rows) == PAGE else None
    return render(
        request, viewer, "dead_letters.html", title="Dead letters", desk=desk, rows=[_view(row) for row in rows],
        next_url=following, once=new_once(), total=sum(each["dead_letters"] for each in desk.connections),
    )  # fmt: skip


def _view(row: Record) -> dict[str, Any]:
    """An event that the log has dropped is an id without a type, and cannot be replayed."""
    return {
        "event_id": event_id(row["event_id"]),
        "box": f"{_BOX}{row['e164']} {event_id(row['event_id'])}",
        "number": row["e164"],
        "conversation_id": public_id("cnv", row["conversation_id"]) if row["conversation_id"] else None,
        **{name: row[name] for name in ("type", "event_at", "attempts", "last_error", "at", "is_held")},
    }


def _chosen(fields: Fields) -> dict[str, list[int]]:
    """Ticked events by number. Raises `Invalid`."""
    found: dict[str, list[int]] = defaultdict(list)
    for box in ticked(fields, _BOX):
        e164, _, event = box.partition(" ")
        number = event_number(event)
        if number is None:
            raise Invalid("one of the boxes names no event: load the page again")
        found[e164].append(number)
    return found


async def replay_dead(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Have the ticked events delivered once more, or all that were given up (`all`), number by number."""
    context, service_id = request.app[CONTEXT], service_in(viewer, fields)
    async with context.database.transaction() as conn:
        if not await is_first(conn, viewer, fields):
            return see_other(request, "/console/replays", notice="This replay was asked for already.")
        wanted = await _selections(conn, viewer, service_id, fields)
        made = [
            await request_replay(conn, service_id, e164, selection, viewer.actor, datetime.now(UTC))
            for e164, selection in wanted
        ]
    context.refresh()
    url = f"/console/replays/{made[0]['id']}" if len(made) == 1 else "/console/replays"
    return see_other(request, url, notice="Asked for: the events are delivered once more, in their own time.")


async def _selections(
    conn: Connection, viewer: Viewer, service_id: UUID, fields: Fields
) -> list[tuple[str, Selection]]:
    if "all" in fields:
        desk = await open_desk(conn, viewer, service_id, given(fields, "number"))
        found = [(each["number"], Selection(is_failed=True)) for each in desk.connections if each["dead_letters"]]
    else:
        found = [(e164, Selection(event_ids=events)) for e164, events in sorted(_chosen(fields).items())]
    if not found:
        raise Invalid("Nothing was chosen: tick the events to replay, or replay all that failed.")
    return found


async def drop_dead(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Give up the ticked events for good, or all (`all`); asks first."""
    context, service_id = request.app[CONTEXT], service_in(viewer, fields)
    e164, is_all = given(fields, "number"), "all" in fields
    # All are all, whatever is ticked besides.
    chosen = [] if is_all else sorted(number for numbers in _chosen(fields).values() for number in numbers)
    if not chosen and not is_all:
        raise Invalid("Nothing was chosen: tick the events to drop.")
    if "confirmed" not in fields:
        return await _ask(request, viewer, service_id, fields, chosen)
    dropped = 0
    async with context.database.transaction() as conn:
        if is_all:
            dropped = await drop_dead_letters(conn, service_id, viewer.actor, e164=e164)
        else:
            for number in chosen:
                dropped += await drop_dead_letters(conn, service_id, viewer.actor, number=number)
    context.refresh()
    notice = f"{dropped} dead letter{'s' if dropped != 1 else ''} dropped." if dropped else "Nothing was left to drop."
    return see_other(request, _list_url(viewer, fields), notice=notice)


def _list_url(viewer: Viewer, fields: Fields) -> str:
    return f"{_URL}?service={public_id('svc', service_in(viewer, fields))}" if viewer.is_operator else _URL


async def _ask(
    request: web.Request, viewer: Viewer, service_id: UUID, fields: Fields, chosen: list[int]
) -> web.Response:
    async with request.app[CONTEXT].database.reading() as conn:
        desk: Desk = await open_desk(conn, viewer, service_id, given(fields, "number"))
    total = len(chosen) or sum(each["dead_letters"] for each in desk.connections)
    return render(
        request, viewer, "confirm.html",
        title=f"Drop {total} dead letter{'s' if total != 1 else ''}?",
        action=f"{_URL}/drop",
        fields={**{name: value for name, value in fields.items() if name != "csrf"}, "confirmed": "yes"},
        button=f"Drop {total} for good", back=_list_url(viewer, fields),
        losses=[
            f"{desk.service_name} will never get {'this event' if total == 1 else 'these events'} by webhook.",
            ("The messages themselves stay in their conversations, and the events in the log for as long as it is kept:"
            " until then a replay by event id still brings them."),
            "Conversations that were held for one of them go on behind it.",
        ],
        names=[event_id(number) for number in chosen],
    )  # fmt: skip
