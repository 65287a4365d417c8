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
from hub.domain.timeline import decode, encode, mark, unmark
from hub.http.answers.contacts import (
    ContactErased,
    ContactTimeline,
    Export,
    OwnErased,
    OwnExport,
    Profile,
    Profiles,
    Visitor,
)
from hub.http.auth import operator, service
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import CONTACT, LIMIT, Parameter, identifier, in_path, time, word
from hub.http.problems import answer
from hub.store.keeping import remove_unnamed
from hub.store.pool import TryAgain

_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_FIRST: Final = UUID(int=0)
_MARK: Final = re.compile(r"[0-9]{39,57}")
_ATTEMPTS: Final = 5
_ADDRESS: Final = word("address", "by an email, a phone number in any usual spelling, or a business-scoped user id")
_EXTERNAL: Final = word("external_id", "by what the service calls them")
_OWNER: Final = identifier("svc", "service_id", "whose `external_id` it is")
_VISITOR: Final = in_path("vis", "the visitor")
_BEFORE: Final = word("before", "older ones: `before` of an earlier page")
_AFTER: Final = word("after", "newer ones: `after` of an earlier page, or 0 to begin at the beginning")
_TIME: Final = time("before", "")


def _place(text: str) -> tuple[datetime, UUID]:
    """Where to go on among visits: a `next`, or a time."""
    return unmark(int(text)) if _MARK.fullmatch(text) else (_TIME.parse(text), _FIRST)


_VISITS_BEFORE: Final[Parameter[tuple[datetime, UUID]]] = Parameter(
    "before",
    "older visits: a time, or the `next` of the page before",
    {"type": "string"},
    _place,
    default=(_LATEST, _FIRST),
    example="2026-01-31T12:00:00Z",
)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get("/v1/contacts", service(list_contacts, "profiles"))
    app.router.add_get("/v1/contacts/{id}", service(get_contact, "profiles"))
    app.router.add_get("/v1/contacts/{id}/timeline", service(get_contact_timeline, "read"))
    app.router.add_get("/v1/visitors/{id}", service(get_visitor, "profiles"))
    app.router.add_get("/v1/admin/contacts", operator(list_any_contacts))
    app.router.add_get("/v1/admin/contacts/{id}", operator(get_any_contact))
    app.router.add_get("/v1/admin/visitors/{id}", operator(get_any_visitor))
    app.router.add_get("/v1/contacts/{id}/export", service(get_own_export, "profiles"))
    app.router.add_delete("/v1/contacts/{id}", service(delete_own_data, "profiles"))
    app.router.add_get("/v1/admin/contacts/{id}/export", operator(get_export))
    app.router.add_delete("/v1/admin/contacts/{id}", operator(delete_contact))


def _looker(request: web.Request, caller: Caller | None) -> Looker:
    return Looker(caller.service_id if caller else None, request.app[CONTEXT].tracking.consent)


@operation(query=(_ADDRESS, _EXTERNAL), answers={200: Profiles}, codes=("invalid_address",))
async def list_contacts(request: web.Request, caller: Caller) -> web.Response:
    """Profiles by an address, or by the caller's own id."""
    return await _list(request, caller)


@operation(query=(_ADDRESS, _EXTERNAL, _OWNER), answers={200: Profiles}, codes=("invalid_address",))
async def list_any_contacts(request: web.Request) -> web.Response:
    """Any profiles by an address, or by a service's own id with that service's `service_id`."""
    return await _list(request, None)


async def _list(request: web.Request, caller: Caller | None) -> web.Response:
    context, looker = request.app[CONTEXT], _looker(request, caller)
    text, external_id = _ADDRESS.find(request), _EXTERNAL.find(request)
    if (text is None) == (external_id is None):
        raise Invalid("name the customer in one way: by address, or by external_id (rule H5)")
    async with context.database.transaction() as conn:
        if external_id is not None:
            service_id = caller.service_id if caller else _OWNER.read(request)
            items = await find_by_external(conn, looker, service_id, external_id)
        else:
            items = await find_contacts(conn, looker, read_address(text or "", context.phone_region))
    return answer({"items": items})


@operation(path=(CONTACT,), answers={200: Profile})
async def get_contact(request: web.Request, caller: Caller) -> web.Response:
    """A whole profile."""
    return await _get(request, caller)


@operation(path=(CONTACT,), answers={200: Profile})
async def get_any_contact(request: web.Request) -> web.Response:
    """A whole profile, with what every service says of the contact."""
    return await _get(request, None)


async def _get(request: web.Request, caller: Caller | None) -> web.Response:
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await view_contact(conn, _looker(request, caller), CONTACT.read(request)))


@operation(path=(_VISITOR,), query=(_VISITS_BEFORE, LIMIT), answers={200: Visitor})
async def get_visitor(request: web.Request, caller: Caller) -> web.Response:
    """Who a visitor was, and its visits."""
    return await _get_visitor(request, caller)


@operation(path=(_VISITOR,), query=(_VISITS_BEFORE, LIMIT), answers={200: Visitor})
async def get_any_visitor(request: web.Request) -> web.Response:
    """Who any visitor was, and its visits. Of visitors nobody knows, too."""
    return await _get_visitor(request, None)


async def _get_visitor(request: web.Request, caller: Caller | None) -> web.Response:
    visitor_id, limit, before = _VISITOR.read(request), LIMIT.read(request), _VISITS_BEFORE.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_visitor(conn, _looker(request, caller), visitor_id, before, limit)
    return answer(view | {"next": str(mark(*view["next"])) if view["next"] else None})


@operation(path=(CONTACT,), query=(_BEFORE, _AFTER, LIMIT), answers={200: ContactTimeline}, codes=("invalid_cursor",))
async def get_contact_timeline(request: web.Request, caller: Caller) -> web.Response:
    """All that was said with a contact, over all media and numbers. Newest first (`before`), or from a place, or from
    the beginning, on (`after`); masked per rule C. What they did on the web only with the scope `profiles`.
    """
    contact_id, limit = CONTACT.read(request), LIMIT.read(request)
    before, after = _BEFORE.find(request), _AFTER.find(request)
    if before is not None and after is not None:
        raise Invalid("before reads what is older, after what is newer: not both (rule C3)")
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


@operation(path=(CONTACT,), answers={200: OwnExport})
async def get_own_export(request: web.Request, caller: Caller) -> web.Response:
    """Export what the service itself brought."""
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await export_own(conn, CONTACT.read(request), caller.service_id))


@operation(path=(CONTACT,), answers={200: Export})
async def get_export(request: web.Request) -> web.Response:
    """Export everything that is known of a customer. The audit trail tells of it."""
    context, contact_id = request.app[CONTEXT], CONTACT.read(request)
    async with context.database.transaction() as conn:
        view = await export_contact(
            conn, _looker(request, None), contact_id, OPERATOR, datetime.now(UTC), context.media_links
        )
    return answer(view)


@operation(path=(CONTACT,), answers={200: OwnErased})
async def delete_own_data(request: web.Request, caller: Caller) -> web.Response:
    """Erase what the service itself brought: its ids and traits."""
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await erase_own(conn, CONTACT.read(request), caller.service_id, caller.actor))


@operation(path=(CONTACT,), answers={200: ContactErased})
async def delete_contact(request: web.Request) -> web.Response:
    """Erase a customer altogether, for good. Once more changes nothing."""
    context, contact_id = request.app[CONTEXT], CONTACT.read(request)
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
