"""The console: one message's whole life; in full for the operator, for a reason that is written down (rule C2)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hub.actions.reveal import reveal_message
from hub.actions.trace import trace_message
from hub.domain.errors import NotFound
from hub.domain.ids import parse_id
from hub.http.admin_messages import RevealIn
from hub.http.console.fields import read_as
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.store import messages
from hub.store.pool import Connection


def add_routes(app: web.Application) -> None:
    """Put these pages into the application."""
    app.router.add_get("/console/messages/{id}", page(show_message, "read"))
    app.router.add_get("/console/messages/{id}/reveal", page(go_back, "read"))
    app.router.add_post("/console/messages/{id}/reveal", form(post_reveal, operator_only=True))


async def show_message(request: web.Request, viewer: Viewer) -> web.Response:
    """What happened to it, in order of time and by part."""
    async with request.app[CONTEXT].database.transaction() as conn:
        life = await _trace(conn, request, viewer)
    return _show(request, viewer, life, revealed=None)


async def _trace(conn: Connection, request: web.Request, viewer: Viewer) -> dict[str, Any]:
    message_id = parse_id("msg", request.match_info["id"])
    view = request.app[CONTEXT].view(viewer.service_id)
    return await trace_message(conn, view, message_id, datetime.now(UTC))


def _show(request: web.Request, viewer: Viewer, life: dict[str, Any], revealed: dict[str, Any] | None) -> web.Response:
    return render(
        request,
        viewer,
        "message.html",
        title="Message",
        life=life,
        message=revealed or life["message"],
        revealed=revealed,
        here=f"/console/messages/{life['id']}",
        page_url=f"/console/messages/{life['id']}" if revealed else None,
    )


async def go_back(request: web.Request, viewer: Viewer) -> web.Response:
    """What was revealed is shown once: its address leads to the message as it is seen without a reason."""
    return see_other(request, request.path.removesuffix("/reveal"))


async def post_reveal(request: web.Request, viewer: Viewer, fields: Mapping[str, str]) -> web.Response:
    """The same with what a service wrote in full, this once."""
    wanted = read_as(RevealIn, {"reason": fields.get("reason", "")})
    async with request.app[CONTEXT].database.transaction() as conn:
        life = await _trace(conn, request, viewer)
        row = await messages.find_message(conn, parse_id("msg", request.match_info["id"]))
        if row is None:
            raise NotFound("There is no such message.")
        revealed = await reveal_message(conn, row, wanted.reason, request.app[CONTEXT].media_links)
    return _show(request, viewer, life, revealed)
