"""The operator's API: numbers with their settings and senders, and who is parent (rules A1, A3, A6, C2)."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hub.actions.hand_over import hand_over
from hub.actions.manage_number import change_number, change_sender, put_sender, view_number, view_senders
from hub.actions.register import register_number
from hub.actions.roster import roster_view
from hub.domain.ids import parse_id, public_id
from hub.http.admin_schemas import HandOverIn, NumberChangeIn, NumberIn, SenderChangeIn, SenderIn
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import limit_of, number_of, read_json
from hub.store import numbers
from hub.store.numbers import SenderDraft


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, handler in (
        ("POST", "", post_number),
        ("GET", "", list_numbers),
        ("GET", "/{e164}", get_number),
        ("PATCH", "/{e164}", patch_number),
        ("PUT", "/{e164}/parent", put_parent),
        ("POST", "/{e164}/senders", post_sender),
        ("PATCH", "/{e164}/senders/{medium}", patch_sender),
    ):
        app.router.add_route(method, f"/v1/admin/numbers{path}", operator(handler))


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


async def list_numbers(request: web.Request) -> web.Response:
    """Numbers with their senders."""
    after, limit = number_of(request, "after", default=0), limit_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await numbers.list_numbers(conn, after, limit)
        found = await numbers.list_senders(conn, [row["id"] for row in rows])
        views = await view_senders(conn, found)
    senders: dict[int, list[dict[str, Any]]] = {row["id"]: [] for row in rows}
    for sender, view in zip(found, views, strict=True):
        senders[sender["number_id"]].append(view)
    items = [{"e164": row["e164"], "senders": senders[row["id"]]} for row in rows]
    return answer({"items": items, "next": str(rows[-1]["id"]) if len(rows) == limit else None})


async def get_number(request: web.Request) -> web.Response:
    """One number: settings, senders, channels and who is on them."""
    async with request.app[CONTEXT].database.transaction() as conn:
        view = await view_number(conn, request.match_info["e164"])
    return answer(view)


async def patch_number(request: web.Request) -> web.Response:
    """Change what is named; answers with the number."""
    context = request.app[CONTEXT]
    wanted = NumberChangeIn.model_validate((await read_json(request))[1])
    async with context.database.transaction() as conn:
        await change_number(conn, request.match_info["e164"], datetime.now(UTC), **wanted.model_dump())
        view = await view_number(conn, request.match_info["e164"])
    context.refresh()
    return answer(view)


async def put_parent(request: web.Request) -> web.Response:
    """Hand parenthood over (A6)."""
    context = request.app[CONTEXT]
    wanted = HandOverIn.model_validate((await read_json(request))[1])
    heir = parse_id("svc", wanted.service_id)
    async with context.database.transaction() as conn:
        roster, events = await hand_over(conn, request.match_info["e164"], heir, wanted.note, datetime.now(UTC))
    context.publish(events)
    context.refresh()
    return answer(roster_view(roster))


async def post_sender(request: web.Request) -> web.Response:
    """Give a number a sender, in place of the active one of its medium."""
    wanted = SenderIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await put_sender(conn, request.match_info["e164"], _draft(wanted))
        (view,) = await view_senders(conn, [row])
    return answer(view, status=201)


async def patch_sender(request: web.Request) -> web.Response:
    """Change what is named about a number's sender for a medium."""
    wanted = SenderChangeIn.model_validate((await read_json(request))[1])
    e164, medium = request.match_info["e164"], request.match_info["medium"]
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await change_sender(conn, e164, medium, wanted.model_dump(exclude_unset=True))
        (view,) = await view_senders(conn, [row])
    return answer(view)
