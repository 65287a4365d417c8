"""The operator's API: numbers with their settings and senders, and who is parent (rules A1, A3, A6, C2)."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from hub.actions.hand_over import hand_over
from hub.actions.manage_number import change_number, change_sender, put_sender, view_number, view_senders
from hub.actions.register import register_number
from hub.actions.roster import roster_view
from hub.domain.ids import parse_id, public_id
from hub.http.admin_schemas import HandOverIn, NumberChangeIn, NumberIn, SenderChangeIn, SenderIn
from hub.http.answers.admin import AdminNumber, AdminSender, AllNumbers, NumberMade, Roster
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import E164, LIMIT, integer, word_in_path
from hub.http.problems import answer
from hub.http.schemas import read_json
from hub.store import numbers
from hub.store.numbers import SenderDraft

_AFTER: Final = integer("after", "the `next` of the page before", default=0)
_MEDIUM: Final = word_in_path("medium", "what the sender sends", "whatsapp", enum=["whatsapp", "sms"])


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, handler in (
        ("POST", "", post_number),
        ("GET", "", list_all_numbers),
        ("GET", "/{e164}", get_any_number),
        ("PATCH", "/{e164}", patch_number),
        ("PUT", "/{e164}/parent", put_parent),
        ("POST", "/{e164}/senders", post_sender),
        ("PATCH", "/{e164}/senders/{medium}", patch_sender),
    ):
        app.router.add_route(method, f"/v1/admin/numbers{path}", operator(handler))


@operation(body=NumberIn, answers={201: NumberMade}, codes=("number_exists", "sender_exists"))
async def post_number(request: web.Request) -> web.Response:
    """Register a number with its senders; its shared channel exists from then on (A7)."""
    wanted = NumberIn.model_validate((await read_json(request))[1])
    drafts = [_draft(sender) for sender in wanted.senders]
    async with request.app[CONTEXT].database.transaction() as conn:
        channel_id = await register_number(conn, wanted.e164, drafts)
    senders = [asdict(draft) for draft in drafts]
    return answer({"e164": wanted.e164, "channel_id": public_id("chn", channel_id), "senders": senders}, status=201)


def _draft(sender: SenderIn) -> SenderDraft:
    return SenderDraft(sender.medium, sender.provider, sender.external_id, sender.rate, sender.account)


@operation(query=(_AFTER, LIMIT), answers={200: AllNumbers})
async def list_all_numbers(request: web.Request) -> web.Response:
    """Numbers with their senders."""
    after, limit = _AFTER.read(request), LIMIT.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await numbers.list_numbers(conn, after, limit)
        found = await numbers.list_senders(conn, [row["id"] for row in rows])
        views = await view_senders(conn, found)
    senders: dict[int, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for sender, view in zip(found, views, strict=True):
        senders[sender["number_id"]].append(view)
    items = [{"e164": row["e164"], "senders": senders[row["id"]]} for row in rows]
    return answer({"items": items, "next": str(rows[-1]["id"]) if len(rows) == limit else None})


@operation(path=(E164,), answers={200: AdminNumber})
async def get_any_number(request: web.Request) -> web.Response:
    """One number: settings, senders, channels and who is on them."""
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_number(conn, E164.read(request))
    return answer(view)


@operation(path=(E164,), body=NumberChangeIn, answers={200: AdminNumber})
async def patch_number(request: web.Request) -> web.Response:
    """Change what is named; answers with the number."""
    context = request.app[CONTEXT]
    wanted = NumberChangeIn.model_validate((await read_json(request))[1])
    async with context.database.transaction() as conn:
        await change_number(conn, E164.read(request), datetime.now(UTC), **wanted.model_dump())
        view = await view_number(conn, E164.read(request))
    context.refresh()
    return answer(view)


@operation(path=(E164,), body=HandOverIn, answers={200: Roster}, codes=("not_connected", "standalone_channel"))
async def put_parent(request: web.Request) -> web.Response:
    """Hand parenthood over (A6)."""
    context = request.app[CONTEXT]
    wanted = HandOverIn.model_validate((await read_json(request))[1])
    heir = parse_id("svc", wanted.service_id)
    async with context.database.transaction() as conn:
        roster, events = await hand_over(conn, E164.read(request), heir, wanted.note, datetime.now(UTC))
    context.publish(events)
    context.refresh()
    return answer(roster_view(roster))


@operation(path=(E164,), body=SenderIn, answers={201: AdminSender}, codes=("sender_exists",))
async def post_sender(request: web.Request) -> web.Response:
    """Give a number a sender, in place of the active one of its medium."""
    wanted = SenderIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await put_sender(conn, E164.read(request), _draft(wanted))
        (view,) = await view_senders(conn, [row])
    return answer(view, status=201)


@operation(path=(E164, _MEDIUM), body=SenderChangeIn, answers={200: AdminSender})
async def patch_sender(request: web.Request) -> web.Response:
    """Change what is named about a number's sender for a medium."""
    wanted = SenderChangeIn.model_validate((await read_json(request))[1])
    e164, medium = E164.read(request), _MEDIUM.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await change_sender(conn, e164, medium, wanted.model_dump(exclude_unset=True))
        (view,) = await view_senders(conn, [row])
    return answer(view)
