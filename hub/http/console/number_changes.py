"""What the operator changes about numbers: senders, settings, who is parent; and fetching what was missed."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from hub.actions import roster
from hub.actions.hand_over import hand_over
from hub.actions.manage_number import change_number, change_sender, put_sender
from hub.domain.ids import parse_id, public_id
from hub.domain.parenthood import check_heir
from hub.http.admin_schemas import HandOverIn, NumberChangeIn, SenderChangeIn, SenderIn
from hub.http.console.connections import what_ends
from hub.http.console.fields import Fields, decimal_in, given, read_as
from hub.http.console.pages import form, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.store import delivery_desk
from hub.store.numbers import SenderDraft

MEDIA: Final = ("whatsapp", "sms")
_URL: Final = "/console/numbers"


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for path, handler in (
        ("/fetch", fetch_now),
        ("/{e164}/settings", change_settings),
        ("/{e164}/senders", add_sender),
        ("/{e164}/senders/{medium}", change_a_sender),
        ("/{e164}/parent", hand_parenthood_over),
    ):
        app.router.add_post(f"{_URL}{path}", form(handler, operator_only=True))


def sender_in(fields: Fields, prefix: str) -> dict[str, Any]:
    """A sender as the form says it, for the API's model to judge."""
    return {
        "medium": given(fields, f"{prefix}medium"),
        "provider": given(fields, f"{prefix}provider"),
        "external_id": given(fields, f"{prefix}external_id"),
        "rate": decimal_in(fields, f"{prefix}rate"),
        "account": given(fields, f"{prefix}account"),
    }


def draft_of(sender: SenderIn) -> SenderDraft:
    """The same, judged."""
    return SenderDraft(sender.medium, sender.provider, sender.external_id, sender.rate, sender.account)


async def add_sender(request: web.Request, _: Viewer, fields: Fields) -> web.Response:
    """Give a number a sender, in place of the active one of its medium."""
    wanted = read_as(SenderIn, sender_in(fields, ""))
    async with request.app[CONTEXT].database.transaction() as conn:
        await put_sender(conn, request.match_info["e164"], draft_of(wanted))
    return see_other(request, _back(request), notice=f"The {wanted.medium} sender is in use from now on.")


async def change_a_sender(request: web.Request, _: Viewer, fields: Fields) -> web.Response:
    """Change rate, account and activity of a number's sender for a medium."""
    values = {
        "rate": decimal_in(fields, "rate"),
        "account": given(fields, "account"),
        "is_active": "is_active" in fields,
    }
    wanted = read_as(SenderChangeIn, values)
    async with request.app[CONTEXT].database.transaction() as conn:
        await change_sender(conn, request.match_info["e164"], request.match_info["medium"], wanted.model_dump())
    return see_other(request, _back(request), notice="Saved. It holds for the next message.")


async def change_settings(request: web.Request, _: Viewer, fields: Fields) -> web.Response:
    """What authors share who did not say it, and whether services on channels of their own may automate."""
    context = request.app[CONTEXT]
    values = {"default_share": given(fields, "default_share"), "standalone_may_automate": "standalone" in fields}
    wanted = read_as(NumberChangeIn, values)
    async with context.database.transaction() as conn:
        await change_number(conn, request.match_info["e164"], datetime.now(UTC), **wanted.model_dump())
    context.refresh()
    return see_other(request, _back(request), notice="Saved.")


async def hand_parenthood_over(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Make another service the parent; asks first, and says what the old one loses (A6)."""
    context, e164 = request.app[CONTEXT], request.match_info["e164"]
    wanted = read_as(HandOverIn, {"service_id": fields.get("service", ""), "note": given(fields, "note")})
    heir = parse_id("svc", wanted.service_id)
    if "confirmed" not in fields:
        return await _ask_about_parent(request, viewer, heir, wanted.note)
    async with context.database.transaction() as conn:
        found, events = await hand_over(conn, e164, heir, wanted.note, datetime.now(UTC))
    context.publish(events)
    context.refresh()
    name = found.parent.name if found.parent else ""
    told = f"{name} is the parent now, at epoch {found.epoch}." if events else f"{name} was the parent already."
    return see_other(request, _back(request), notice=told)


async def _ask_about_parent(request: web.Request, viewer: Viewer, heir: UUID, note: str | None) -> web.Response:
    e164 = request.match_info["e164"]
    async with request.app[CONTEXT].database.transaction() as conn:
        number, found = await roster.find_roster(conn, e164, heir)
        if refusal := check_heir(found.kind):
            raise refusal
        old = found.parent
        count = delivery_desk.count_automation
        waiting = await count(conn, number["id"], found.channel_id, old.service_id) if old else 0
    name = next(row["name"] for row in found.members if row["service_id"] == heir)
    if old and old.service_id == heir:  # meanwhile
        return see_other(request, _back(request), notice=f"{name} was the parent already.")
    losses = [
        f"{name} becomes the parent at epoch {found.epoch + 1}: it alone may automate from then on.",
        "Conversations, history, queued replies of agents and all deliveries stay as they are, and nobody leaves.",
    ]
    if old:
        losses.insert(0, f"{old.name} is the parent no more, and stays a subscriber: {what_ends(waiting)}.")
    return render(
        request, viewer, "confirm.html", title=f"Make {name} the parent of {e164}?", action=request.path,
        fields={"confirmed": "yes", "service": public_id("svc", heir), "note": note or ""},
        button=f"Hand over to {name}", back=_back(request), losses=losses, names=[f"Note: {note}"] if note else [],
    )  # fmt: skip


def _back(request: web.Request) -> str:
    return f"{_URL}/{request.match_info['e164']}"


async def fetch_now(request: web.Request, _: Viewer, __: Fields) -> web.Response:
    """Compare providers' lists with what came by webhook, and take in what is missing (B3)."""
    told = []
    for done in await request.app[CONTEXT].reconcile():
        if done.outcome == "done":
            told.append(f"{done.provider}: {done.listed} listed, {done.taken} were missing and are taken in")
        elif done.outcome == "not_configured":
            told.append(f"{done.provider}: not configured, or has no list")
        else:
            told.append(f"{done.provider}: not compared ({done.detail or done.outcome}); nothing is lost, try again")
    return see_other(request, _URL, notice=". ".join(told) + "." if told else "No provider here has a list to compare.")
