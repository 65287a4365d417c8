"""The console: merge candidates with what speaks for and against, merging with a look ahead, and undo (rules I, H5).

What a merge or an undo would do is found by doing it, in a transaction that is given up: so it is what would happen.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from aiohttp import web

from hub.actions import people
from hub.actions.identity_events import person
from hub.actions.merge import Manager, Merged, merge_contacts
from hub.actions.undo import Undone, undo
from hub.actions.view_contact import find_person, view_contact
from hub.actions.view_identity import list_candidates, list_operations
from hub.domain.errors import Invalid, NotFound, Refusal
from hub.domain.ids import parse_id, public_id
from hub.domain.likeness import weigh
from hub.http.console.contacts import URL as CONTACTS
from hub.http.console.contacts import looker_of, title_of
from hub.http.console.fields import PAGE, Fields, asked, next_url
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT, Context
from hub.http.identify import again
from hub.store.pool import Connection, TryAgain

_FIRST: Final = UUID(int=0)
_LAST: Final = 2**62
_MOST_OPERATIONS: Final = 200
T = TypeVar("T")


class _GivenUp(Exception):
    """Ends a transaction that was only to be looked at."""


def add_routes(app: web.Application) -> None:
    """Put these pages into the application."""
    app.router.add_get("/console/merge-candidates", page(show_candidates, "profiles"))
    app.router.add_get("/console/merge", page(show_merge, "profiles"))
    app.router.add_post("/console/merge", form(post_merge, "profiles"))
    app.router.add_get(f"{CONTACTS}/{{id}}/operations/{{op}}", page(show_undo, "profiles"))
    app.router.add_post(f"{CONTACTS}/{{id}}/operations/{{op}}/undo", form(post_undo, "profiles"))


def _manager(viewer: Viewer) -> Manager:
    return Manager(viewer.actor, viewer.service_id)


async def _rehearse(context: Context, act: Callable[[Connection], Awaitable[T]]) -> tuple[T | None, Refusal | None]:
    """What an action would come to, or what stands against it; nothing of it stays."""
    result: T | None = None
    try:
        async with context.database.transaction() as conn:
            result = await act(conn)
            raise _GivenUp
    except _GivenUp:
        return result, None
    except TryAgain:
        return None, Refusal("Somebody is changing these contacts just now: reload in a moment.")
    except Refusal as refusal:
        return None, refusal


# Candidates and merging ---------------------------------------------------------------------------------------------


async def show_candidates(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """Pairs of contacts that may be one person."""
    after = parse_id("mrg", place) if (place := asked(request, "after")) else _FIRST
    async with request.app[CONTEXT].database.transaction() as conn:
        items, following = await list_candidates(conn, viewer.service_id, after, PAGE)
    return render(
        request, viewer, "candidates.html", title="Merge candidates", items=items, is_first=after == _FIRST,
        next_url=next_url(request, after=public_id("mrg", following)) if following else None,
    )  # fmt: skip


async def show_merge(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """Two contacts side by side: what speaks for and against, and what merging them would make of them."""
    context = request.app[CONTEXT]
    kept, absorbed = (_named(request, name) for name in ("keep", "merge"))
    if kept == absorbed:
        raise Invalid("These are the same contact: name two.")
    async with context.database.transaction() as conn:
        views = [await view_contact(conn, looker_of(request, viewer), each) for each in (kept, absorbed)]
        talks = [
            (await people.find_surroundings(conn, viewer.service_id, each)).conversations for each in (kept, absorbed)
        ]

    async def take(conn: Connection) -> dict[str, Any]:
        await merge_contacts(conn, _manager(viewer), kept, absorbed, datetime.now(UTC))
        return await view_contact(conn, looker_of(request, viewer), kept)

    after, refusal = await _rehearse(context, take)
    return render(
        request, viewer, "merge.html", title="One person, or two?", views=views, talks=talks, after=after,
        refusal=refusal, points=weigh(people.known(views[0]), people.known(views[1])),
        reasons=[each for each in views[0]["candidates"] if each["contact_id"] == views[1]["id"]],
        kept=public_id("con", kept), absorbed=public_id("con", absorbed), titles=[title_of(view) for view in views],
    )  # fmt: skip


def _named(request: web.Request, name: str) -> UUID:
    text = asked(request, name)
    if text is None:
        raise Invalid("Name two contacts: keep=con_... and merge=con_...; merge candidates do.")
    return parse_id("con", text)


async def post_merge(request: web.Request, viewer: Viewer, fields: Fields) -> web.StreamResponse:
    """Merge one contact into the other."""
    context = request.app[CONTEXT]
    kept, absorbed = (parse_id("con", fields.get(name, "")) for name in ("keep", "merge"))

    async def take(conn: Connection) -> tuple[Merged, dict[str, Any]]:
        for each in (kept, absorbed):
            await find_person(conn, each, viewer.service_id)
        done = await merge_contacts(conn, _manager(viewer), kept, absorbed, datetime.now(UTC))
        return done, await person(conn, kept)

    done, view = await again(context, take)
    context.publish(done.events)
    name = view["name"] or "the contact"
    notice = f"Merged: {name} is one profile now. It can be undone under what was done to it."
    return see_other(request, f"{CONTACTS}/{view['id']}", notice=notice)


# Undo ---------------------------------------------------------------------------------------------------------------


async def show_undo(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """One operation, and what undoing it would take back."""
    context, contact_id = request.app[CONTEXT], parse_id("con", request.match_info["id"])
    async with context.database.transaction() as conn:
        view = await view_contact(conn, looker_of(request, viewer), contact_id)
        items, _ = await list_operations(conn, viewer.service_id, contact_id, _LAST, _MOST_OPERATIONS)
    operation = next((item for item in items if item["id"] == request.match_info["op"]), None)
    if operation is None:
        raise NotFound("There is no such operation among the last ones on this contact (rules I).")
    op_id = parse_id("op", request.match_info["op"])

    async def take(conn: Connection) -> dict[str, Any]:
        await undo(conn, _manager(viewer), op_id, datetime.now(UTC))
        try:
            return await view_contact(conn, looker_of(request, viewer), contact_id)
        except NotFound:  # the operation had made this contact, or had let the viewer know of it
            return {}

    after, refusal = await _rehearse(context, take)
    return render(
        request, viewer, "contact_undo.html", title="What was done, and undoing it", contact=view,
        operation=operation, after=after, refusal=refusal,
    )  # fmt: skip


async def post_undo(request: web.Request, viewer: Viewer, _: Fields) -> web.StreamResponse:
    """Take an operation back."""
    context, op_id = request.app[CONTEXT], parse_id("op", request.match_info["op"])

    async def take(conn: Connection) -> Undone:
        return await undo(conn, _manager(viewer), op_id, datetime.now(UTC))

    done = await again(context, take)
    context.publish(done.events)
    url = f"{CONTACTS}/{request.match_info['id']}/operations"
    return see_other(request, url, notice=f"Undone: the {done.kind} by rule {done.rule} is taken back exactly.")
