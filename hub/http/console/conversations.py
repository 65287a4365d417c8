"""The console: conversations, and one conversation's live timeline (rules B8, C1 to C3, D1, E4, E5)."""

from typing import Any, Final
from uuid import UUID

from aiohttp import web

from hub.actions.consents import find_consent
from hub.actions.look import Span, read_messages
from hub.actions.talks import Wanted, Which, find_automation, find_talk, list_present, list_talks
from hub.actions.timeline import view_conversations
from hub.domain.consent import Consent
from hub.domain.errors import Conflict, Invalid
from hub.domain.ids import parse_id, public_id
from hub.http.console.fields import asked, next_url
from hub.http.console.pages import page, render
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.http.schemas import event_number, number_of, phone_of
from hub.store import contacts, services, talks
from hub.store.pool import Connection, Record

PAGE: Final = 40
"""Messages of a timeline's page."""
_HIGHEST: Final = 2**62
_LOWEST: Final = -(2**62)
_NONE: Final = UUID(int=0)
_VIEWS: Final[dict[str, Which]] = {"": "moved", "moved": "moved", "all": "all", "waiting": "waiting", "held": "held"}


def add_routes(app: web.Application) -> None:
    """Put these pages into the application."""
    app.router.add_get("/console/conversations", page(show_conversations, "read"))
    app.router.add_get("/console/conversations/{id}", page(show_conversation, "read"))


async def show_conversations(request: web.Request, viewer: Viewer) -> web.Response:
    """Those that moved last, all by age, those that wait for somebody, or that somebody holds."""
    wanted = _wanted(request)
    view = request.app[CONTEXT].view(viewer.service_id)
    async with request.app[CONTEXT].database.transaction() as conn:
        found = await list_talks(conn, view, wanted)
        channels = await talks.list_channels(conn, viewer.service_id, None)
        reach = [row["channel_id"] for row in channels] if viewer.service_id else None
        waiting = await talks.count_waiting(conn, reach, viewer.service_id)
        people = await services.list_services(conn, _NONE, 200) if viewer.is_operator else []
    return render(
        request,
        viewer,
        "conversations.html",
        title="Conversations",
        items=found.items,
        next_url=next_url(request, before=found.next) if found.next else None,
        wanted=wanted,
        who=public_id("svc", wanted.who) if wanted.who else "",
        owners={public_id("chn", row["channel_id"]): row["owner"] for row in channels if row["owner"]},
        numbers=sorted({row["e164"] for row in channels}),
        services=[(public_id("svc", row["id"]), row["name"]) for row in people],
        waiting=waiting,
        is_first=wanted.before is None and wanted.before_event is None,
    )


def _wanted(request: web.Request) -> Wanted:
    which = _VIEWS.get(asked(request, "show") or "")
    if which is None:
        raise Invalid("show is moved, all, waiting or held: pick one of the tabs.")
    place, who = asked(request, "before"), asked(request, "service")
    before_event = event_number(place) if place and which == "moved" else None
    if place and which == "moved" and before_event is None:
        raise Invalid("before is the place a page ended at: begin with the first page again.")
    before = parse_id("cnv", place) if place and which != "moved" else None
    number = phone_of(request, "number") if asked(request, "number") else None
    return Wanted(which, number, before_event, before, parse_id("svc", who) if who else None)


async def show_conversation(request: web.Request, viewer: Viewer) -> web.Response:
    """One conversation: its end, newest first, and all that decides what may be sent now."""
    conversation_id = parse_id("cnv", request.match_info["id"])
    view = request.app[CONTEXT].view(viewer.service_id)
    before = number_of(request, "before", default=_HIGHEST, low=_LOWEST)
    async with request.app[CONTEXT].database.transaction() as conn:
        talk = await find_talk(conn, view, conversation_id)
        (seen,) = await view_conversations(conn, viewer.service_id, [talk])
        items, following = await read_messages(conn, view, conversation_id, Span(None, before, PAGE))
        present = await list_present(conn, view, conversation_id)
        automation = await find_automation(conn, view, talk)
        consent = await _find_consent(conn, talk)
    return render(
        request,
        viewer,
        "conversation.html",
        title=title_of(seen),
        seen=seen,
        items=items,
        next_url=next_url(request, before=following) if following is not None else None,
        is_first=before == _HIGHEST,
        present=present,
        automation=automation,
        consent=consent,
    )


def title_of(conversation: dict[str, Any]) -> str:
    """A conversation in a few words."""
    contact = conversation["contact"]
    phones = [a["value"] for a in contact["addresses"] if a["type"] == "phone"]
    return str(contact["name"] or next(iter(phones), None) or "A customer without a name")


async def _find_consent(conn: Connection, talk: Record) -> Consent | None:
    """What holds for the customer; None where they were erased."""
    people = await contacts.list_contacts(conn, {talk["contact_id"]})
    try:
        return await find_consent(conn, people[talk["contact_id"]], talk["medium"], talk["number_id"])
    except Conflict:
        return None
