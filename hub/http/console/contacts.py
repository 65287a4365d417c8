"""The console: customers as whole profiles, timelines over all media and the web, consent, visitors (C3, E5, H5)."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import web

from hub.actions import people
from hub.actions.consents import ConsentRequest, set_consent
from hub.actions.erase import Erased, erase_contact
from hub.actions.export import export_contact, export_own
from hub.actions.search import search
from hub.actions.timeline import read_timeline
from hub.actions.view_contact import Looker, view_contact, view_visitor
from hub.actions.view_identity import list_operations
from hub.domain.addresses import Address
from hub.domain.consent import CONSENT_MEDIA, MESSAGE_MEDIA
from hub.domain.errors import Conflict, Forbidden, Invalid
from hub.domain.ids import parse_id, public_id
from hub.domain.timeline import decode, encode, mark, unmark
from hub.http.consents import ConsentIn
from hub.http.console.fields import PAGE, Fields, asked, before_of, given, next_url, read_as
from hub.http.console.pages import HEADERS, form, page, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.http.identify import again
from hub.http.problems import answer
from hub.store import subscriptions
from hub.store.keeping import remove_unnamed
from hub.store.numbers import list_numbers
from hub.store.pool import Connection

URL: Final = "/console/contacts"
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_FIRST: Final = UUID(int=0)
_MOST_NUMBERS: Final = 500
_WRITES: Final = ("reply", "automate")
TYPES: Final = {
    "whatsapp": ("phone", "user_id"),
    "sms": ("phone",),
    "email": ("email",),
    "tracking": ("phone", "user_id", "email"),
}
"""The types of address that consent is kept under, by medium (E5)."""


def add_routes(app: web.Application) -> None:
    """Put these pages into the application."""
    for path, handler in (
        (URL, show_contacts),
        (f"{URL}/{{id}}", show_contact),
        (f"{URL}/{{id}}/timeline", show_timeline),
        (f"{URL}/{{id}}/operations", show_operations),
        (f"{URL}/{{id}}/consent", show_consent),
        ("/console/visitors/{id}", show_visitor),
    ):
        app.router.add_get(path, page(handler, "profiles"))
    app.router.add_post(f"{URL}/{{id}}/consent", form(post_consent, "profiles"))
    app.router.add_post(f"{URL}/{{id}}/export", form(post_export, "profiles"))
    app.router.add_post(f"{URL}/{{id}}/erase", form(post_erase, operator_only=True))


def looker_of(request: web.Request, viewer: Viewer) -> Looker:
    """How a viewer looks at profiles."""
    return Looker(viewer.service_id, request.app[CONTEXT].tracking.consent)


def contact_id_of(request: web.Request) -> UUID:
    """The contact of the path. Raises `NotFound`."""
    return parse_id("con", request.match_info["id"])


# Looking ------------------------------------------------------------------------------------------------------------


async def show_contacts(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """The newest, or those that an address, an id or a name leads to."""
    context, text = request.app[CONTEXT], asked(request, "q")
    before = parse_id("con", place) if (place := asked(request, "before")) else None
    found: list[dict[str, Any]] | None = None
    async with context.database.transaction() as conn:
        if text:
            found = await _find(conn, request, viewer, text)
        items, following = await people.list_people(conn, viewer.service_id, before, PAGE) if not text else ([], None)
    return render(
        request, viewer, "contacts.html", title="Contacts", items=items, found=found, text=text or "",
        next_url=next_url(request, before=public_id("con", following)) if following else None, is_first=before is None,
    )  # fmt: skip


async def _find(conn: Connection, request: web.Request, viewer: Viewer, text: str) -> list[dict[str, Any]]:
    context = request.app[CONTEXT]
    hits = await search(conn, context.view(viewer.service_id), text, context.phone_region)
    return [{"id": hit.id, "title": hit.title, "detail": hit.detail} for hit in hits if hit.kind == "contact"]


async def show_contact(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """One contact: addresses, consent, who the browsers were, and what services say of it."""
    contact_id = contact_id_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_contact(conn, looker_of(request, viewer), contact_id)
        around = await people.find_surroundings(conn, viewer.service_id, contact_id)
    traits = [trait | {"shown": _plain(trait["value"])} for trait in view["traits"]]
    return render(
        request, viewer, "contact.html", title=title_of(view), contact=view | {"traits": traits}, around=around,
        bound={binding["visitor_id"] for binding in view["bindings"]}, landings_of=_landings_of(around.landings),
    )  # fmt: skip


def _plain(value: orjson.Fragment) -> str:
    """A trait's value: text as it is, anything else as JSON."""
    text = orjson.dumps(value).decode()
    read = orjson.loads(text)
    return read if isinstance(read, str) else text


def title_of(view: dict[str, Any]) -> str:
    """A contact in a few words."""
    first = next((address["value"] for address in view["addresses"]), None)
    return str(view["name"] or first or ("An erased contact" if view.get("erased") else "A contact without a name"))


def _landings_of(landings: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """The first landing of each visitor by each link: the one that bound it, where one did."""
    return {(each["visitor_id"], each["link_id"]): each for each in landings}


async def show_timeline(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """All that was said and done, over all media and the web, newest first."""
    context, contact_id, place = request.app[CONTEXT], contact_id_of(request), request.query.get("before")
    async with context.database.transaction() as conn:
        view = await view_contact(conn, looker_of(request, viewer), contact_id)
        around = await people.find_surroundings(conn, viewer.service_id, contact_id)
        timeline = await read_timeline(
            conn, viewer.service_id, contact_id, decode(place) if place else None, PAGE,
            is_forward=False, with_web=True, links=context.media_links,
        )  # fmt: skip
    following = encode(timeline.before) if len(timeline.items) == PAGE else None
    return render(
        request, viewer, "contact_timeline.html", title=f"Timeline of {title_of(view)}", contact=view,
        items=timeline.items, talks={talk["id"]: talk for talk in around.conversations},
        next_url=next_url(request, before=following) if following else None, is_first=place is None,
    )  # fmt: skip


async def show_operations(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """The ledger of what was done to a contact, the last first."""
    contact_id = contact_id_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_contact(conn, looker_of(request, viewer), contact_id)
        items, following = await list_operations(conn, viewer.service_id, contact_id, before_of(request), PAGE)
    return render(
        request, viewer, "contact_operations.html", title=f"What was done to {title_of(view)}", contact=view,
        items=items, next_url=next_url(request, before=following) if following else None,
    )  # fmt: skip


async def show_visitor(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """A browser: whose it was and when, and its visits."""
    visitor_id, place = parse_id("vis", request.match_info["id"]), request.query.get("before", "")
    try:
        before = unmark(int(place)) if place else (_LATEST, _FIRST)
    except ValueError as error:
        raise Invalid("before is the place a page ended at: begin with the first page again.") from error
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_visitor(conn, looker_of(request, viewer), visitor_id, before, PAGE)
    following = next_url(request, before=mark(*view["next"])) if view["next"] else None
    return render(request, viewer, "visitor.html", title="A visitor", visitor=view, next_url=following)


# Consent ------------------------------------------------------------------------------------------------------------


async def show_consent(
    request: web.Request, viewer: Viewer, typed: Fields | None = None, wrong: str | None = None
) -> web.StreamResponse:
    """A form to note what the customer said, for one address, medium and number; with what was `typed`, where that was
    `wrong`.
    """
    filled = request.query if typed is None else typed
    contact_id = contact_id_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_contact(conn, looker_of(request, viewer), contact_id)
        numbers = await _numbers(conn, viewer)
    return render(
        request, viewer, "contact_consent.html", title=f"Note consent of {title_of(view)}", contact=view,
        numbers=numbers, media=CONSENT_MEDIA, message_media=MESSAGE_MEDIA,
        wanted={name: filled.get(name, "") for name in ("medium", "address", "number", "status", "evidence")},
        types=TYPES, may_write=_may_write(viewer, None), here=request.path, wrong=wrong, status=422 if wrong else 200,
    )  # fmt: skip


async def _numbers(conn: Connection, viewer: Viewer) -> list[str]:
    if viewer.service_id is None:
        return [row["e164"] for row in await list_numbers(conn, 0, _MOST_NUMBERS)]
    return sorted({row["e164"] for row in await subscriptions.list_of_service(conn, viewer.service_id)})


def _may_write(viewer: Viewer, medium: str | None) -> bool:
    """As with the API: messages' consent by who may write, any other by who knows profiles, too."""
    return (medium is not None and medium not in MESSAGE_MEDIA) or any(viewer.may(scope) for scope in _WRITES)


async def post_consent(request: web.Request, viewer: Viewer, fields: Fields) -> web.StreamResponse:
    """Note it: the operator, with evidence, may lift what the customer revoked."""
    try:
        return await _note_consent(request, viewer, fields)
    except (Invalid, Conflict) as refusal:
        return await show_consent(request, viewer, fields, refusal.detail)


async def _note_consent(request: web.Request, viewer: Viewer, fields: Fields) -> web.StreamResponse:
    context, contact_id, medium = request.app[CONTEXT], contact_id_of(request), fields.get("medium", "")
    if not _may_write(viewer, medium):
        raise Forbidden(
            "Your key may not note consent (rule E3): it needs the scope reply or automate.", code="missing_scope"
        )
    wanted = read_as(ConsentIn, {"status": fields.get("status"), "evidence": given(fields, "evidence")})
    async with context.database.transaction() as conn:
        view = await view_contact(conn, looker_of(request, viewer), contact_id)
        asked_for = _asked(view, viewer, fields)
        changed = await set_consent(conn, asked_for, wanted.status, wanted.evidence, datetime.now(UTC))
    context.publish(changed.events)
    told = "" if changed.events else " Nothing changed by it."
    status = f"{medium}: {changed.view['status']} for {changed.view['address']}."
    return see_other(request, f"{URL}/{request.match_info['id']}#consent", notice=f"{status}{told}")


def _asked(view: dict[str, Any], viewer: Viewer, fields: Fields) -> ConsentRequest:
    medium, value, e164 = fields.get("medium", ""), fields.get("address", ""), given(fields, "number")
    if medium not in CONSENT_MEDIA:
        raise Invalid("Pick what it is about: whatsapp, sms, email or tracking (rule E5).")
    kinds = [each["type"] for each in view["addresses"] if each["value"] == value]
    kind = next((kind for kind in kinds if kind in TYPES[medium]), None)
    if kind is None:
        raise Invalid(
            f"Consent for {medium} is kept under {' or '.join(TYPES[medium]).replace('_', ' ')} (rule E5), and this is"
            " no such address of this contact: pick another.",
            code="invalid_address",
        )
    if e164 and medium not in MESSAGE_MEDIA:
        raise Invalid(f"Consent for {medium} is not of one number (rule E5): leave the number at all of them.")
    return ConsentRequest(medium, Address(kind, value), e164, viewer.service_id)


# Export and erasure -------------------------------------------------------------------------------------------------


async def post_export(request: web.Request, viewer: Viewer, _: Fields) -> web.StreamResponse:
    """Everything for the operator, with a row in the audit trail; for a service what it brought itself (H5)."""
    context, contact_id = request.app[CONTEXT], contact_id_of(request)
    async with context.database.transaction() as conn:
        if viewer.service_id is None:
            view = await export_contact(
                conn, looker_of(request, viewer), contact_id, viewer.actor, datetime.now(UTC), context.media_links
            )
        else:
            view = await export_own(conn, contact_id, viewer.service_id)
    name = f"{public_id('con', contact_id)}.json"
    return answer(view, headers=HEADERS | {"Content-Disposition": f'attachment; filename="{name}"'})


async def post_erase(request: web.Request, viewer: Viewer, fields: Fields) -> web.StreamResponse:
    """Erase a customer altogether, once what is asked for was typed."""
    context, contact_id = request.app[CONTEXT], contact_id_of(request)
    back = f"{URL}/{request.match_info['id']}"
    if "confirmed" not in fields:
        return await _ask_about_erasure(request, viewer, contact_id, back)
    if fields.get("typed", "").strip() != "erase":
        raise Invalid("The word erase was not typed, so nothing was erased.")

    async def take(conn: Connection) -> Erased:
        return await erase_contact(conn, contact_id, viewer.actor, datetime.now(UTC))

    erased = await again(context, take)
    context.publish(erased.events)
    await remove_unnamed(context.database, context.files, erased.files)
    return see_other(request, back, notice="Erased. What was said is gone everywhere; what was refused still holds.")


async def _ask_about_erasure(request: web.Request, viewer: Viewer, contact_id: UUID, back: str) -> web.StreamResponse:
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_contact(conn, looker_of(request, viewer), contact_id)
        around = await people.find_surroundings(conn, None, contact_id)
    count = len(around.conversations)
    return render(
        request, viewer, "confirm.html", title=f"Erase {title_of(view)}?", action=request.path,
        fields={"confirmed": "yes"}, button="Erase this customer", back=back, typed="erase",
        names=[], losses=_erasure([address["value"] for address in view["addresses"]], count, len(view["merged"])),
    )  # fmt: skip


def _erasure(addresses: list[str], conversations: int, merged: int) -> list[str]:
    told = ["It cannot be undone by anybody: it is the one operation that cannot."]
    if addresses:
        told.append(f"It is about {', '.join(addresses)}.")
    said = "conversation" if conversations == 1 else "conversations"
    told.append(
        f"Everything said in {conversations} {said} is overwritten: messages, files, the event log, quarantine."
    )
    if merged:
        told.append(f"With it goes what was merged into it: {merged} other{'s' if merged > 1 else ''}.")
    return [
        *told,
        "Name, addresses, traits, browsers and visits are gone, and its links lead on without telling who came.",
        "What waits to be sent is cancelled. Every service that knew of it is told with profile.erased.",
        "What the customer refused still holds. Whoever writes from the same address again is a new contact.",
    ]
