"""The adapter API: customers as whole profiles, their timeline over all media and the web, and visitors (C3, H5)."""

import re
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from aiohttp import web

from hub.actions.erase import Erased, erase_contact, erase_own
from hub.actions.export import export_contact, export_own
from hub.actions.register import OPERATOR
from hub.actions.roster import Caller
from hub.actions.timeline import read_timeline
from hub.actions.view_contact import (
    Looker,
    find_by_external,
    find_contacts,
    read_address,
    view_contact,
    view_visitor,
)
from hub.domain.errors import Invalid
from hub.domain.ids import parse_id
from hub.domain.timeline import decode, encode, mark, unmark
from hub.http.auth import operator, service
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import limit_of, one_way, read_time
from hub.store.keeping import remove_unnamed
from hub.store.pool import TryAgain

_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_FIRST: Final = UUID(int=0)
_MARK: Final = re.compile(r"[0-9]{39,57}")
_ATTEMPTS: Final = 5


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get("/v1/contacts", service(list_contacts, "profiles"))
    app.router.add_get("/v1/contacts/{id}", service(get_contact, "profiles"))
    app.router.add_get("/v1/contacts/{id}/timeline", service(get_timeline, "read"))
    app.router.add_get("/v1/visitors/{id}", service(get_visitor, "profiles"))
    app.router.add_get("/v1/admin/contacts", operator(list_any_contacts))
    app.router.add_get("/v1/admin/contacts/{id}", operator(get_any_contact))
    app.router.add_get("/v1/admin/visitors/{id}", operator(get_any_visitor))
    app.router.add_get("/v1/contacts/{id}/export", service(export, "profiles"))
    app.router.add_delete("/v1/contacts/{id}", service(delete_own, "profiles"))
    app.router.add_get("/v1/admin/contacts/{id}/export", operator(export_all))
    app.router.add_delete("/v1/admin/contacts/{id}", operator(delete_contact))


def _looker(request: web.Request, caller: Caller | None) -> Looker:
    return Looker(caller.service_id if caller else None, request.app[CONTEXT].tracking.consent)


async def list_contacts(request: web.Request, caller: Caller) -> web.Response:
    """Profiles by an address, or by the caller's own id."""
    return await _list(request, caller)


async def list_any_contacts(request: web.Request) -> web.Response:
    """The same for the operator; by a service's id with `service_id`."""
    return await _list(request, None)


async def _list(request: web.Request, caller: Caller | None) -> web.Response:
    context, query, looker = request.app[CONTEXT], request.query, _looker(request, caller)
    if ("address" in query) == ("external_id" in query):
        raise Invalid("name the customer in one way: by address, or by external_id (rule H5)")
    address = read_address(query["address"], context.phone_region) if "address" in query else None
    service_id = caller.service_id if caller else None
    if address is None and service_id is None:
        service_id = parse_id("svc", query.get("service_id", ""))
    async with context.database.transaction() as conn:
        if address is not None:
            items = await find_contacts(conn, looker, address)
        else:
            assert service_id is not None
            items = await find_by_external(conn, looker, service_id, query["external_id"])
    return answer({"items": items})


async def get_contact(request: web.Request, caller: Caller) -> web.Response:
    """A whole profile."""
    return await _get(request, caller)


async def get_any_contact(request: web.Request) -> web.Response:
    """The same for the operator, with what every service says of the contact."""
    return await _get(request, None)


async def _get(request: web.Request, caller: Caller | None) -> web.Response:
    contact_id = parse_id("con", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await view_contact(conn, _looker(request, caller), contact_id))


async def get_visitor(request: web.Request, caller: Caller) -> web.Response:
    """Who a visitor was, and its visits."""
    return await _get_visitor(request, caller)


async def get_any_visitor(request: web.Request) -> web.Response:
    """The same for the operator, of visitors nobody knows, too."""
    return await _get_visitor(request, None)


async def _get_visitor(request: web.Request, caller: Caller | None) -> web.Response:
    visitor_id, limit = parse_id("vis", request.match_info["id"]), limit_of(request)
    before = _place(request.query["before"]) if "before" in request.query else (_LATEST, _FIRST)
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_visitor(conn, _looker(request, caller), visitor_id, before, limit)
    return answer(view | {"next": str(mark(*view["next"])) if view["next"] else None})


def _place(text: str) -> tuple[datetime, UUID]:
    """Where to go on among visits: a `next`, or a time."""
    return unmark(int(text)) if _MARK.fullmatch(text) else (read_time("before", text), _FIRST)


async def get_timeline(request: web.Request, caller: Caller) -> web.Response:
    """All that was said with a contact, over all media and numbers: newest first (`before=`), or from a place, or from
    the beginning, on (`after=`); masked per rule C. What they did on the web only with the scope `profiles`.
    """
    contact_id, limit = parse_id("con", request.match_info["id"]), limit_of(request)
    before, after = request.query.get("before"), request.query.get("after")
    one_way(request)
    is_forward, cursor = after is not None, before if after is None else after
    place = None if cursor is None or (is_forward and cursor == "0") else decode(cursor)
    async with request.app[CONTEXT].database.transaction() as conn:
        page = await read_timeline(
            conn, caller.service_id, contact_id, place, limit,
            is_forward=is_forward, with_web="profiles" in caller.scopes, links=request.app[CONTEXT].media_links,
        )  # fmt: skip
    older, newer = encode(page.before), encode(page.after)
    following = newer if is_forward else older
    return answer(
        {
            "items": page.items,
            "next": following if len(page.items) == limit else None,
            "before": older,
            "after": newer,
            "conversations": page.conversations,
        }
    )


async def export(request: web.Request, caller: Caller) -> web.Response:
    """What the caller itself brought."""
    contact_id = parse_id("con", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await export_own(conn, contact_id, caller.service_id))


async def export_all(request: web.Request) -> web.Response:
    """Everything, for the operator."""
    context, contact_id = request.app[CONTEXT], parse_id("con", request.match_info["id"])
    async with context.database.transaction() as conn:
        view = await export_contact(
            conn, _looker(request, None), contact_id, OPERATOR, datetime.now(UTC), context.media_links
        )
    return answer(view)


async def delete_own(request: web.Request, caller: Caller) -> web.Response:
    """Erase what the caller itself brought."""
    contact_id = parse_id("con", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await erase_own(conn, contact_id, caller.service_id, caller.actor))


async def delete_contact(request: web.Request) -> web.Response:
    """Erase a customer altogether."""
    context, contact_id = request.app[CONTEXT], parse_id("con", request.match_info["id"])
    erased = await _erase(request, contact_id)
    context.publish(erased.events)
    await remove_unnamed(context.database, context.files, erased.files)
    return answer(erased.view)


async def _erase(request: web.Request, contact_id: UUID) -> Erased:
    """Once more where somebody changed the profile meanwhile. Raises `TryAgain` where that goes on and on."""
    for attempt in range(_ATTEMPTS):
        try:
            async with request.app[CONTEXT].database.transaction() as conn:
                return await erase_contact(conn, contact_id, OPERATOR, datetime.now(UTC))
        except TryAgain:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError
