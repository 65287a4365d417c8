"""The console: one event of the log, as the viewer may see it, and where it went (rules C1, G2, G3)."""

from datetime import UTC, datetime

from aiohttp import web

from hub.actions.trace import trace_event
from hub.domain.errors import NotFound
from hub.http.console.pages import page, render
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.http.schemas import event_number


def add_routes(app: web.Application) -> None:
    """Put this page into the application."""
    app.router.add_get("/console/events/{id}", page(show_event, "read"))


async def show_event(request: web.Request, viewer: Viewer) -> web.Response:
    """What it says, and what became of it for every service, or for the viewer's own."""
    number = event_number(request.match_info["id"])
    if number is None:
        raise NotFound("That is no event: an event's id is evt_ and 16 hexadecimal digits.")
    view = request.app[CONTEXT].view(viewer.service_id)
    async with request.app[CONTEXT].database.transaction() as conn:
        life = await trace_event(conn, view, number, datetime.now(UTC))
    own = next(event for event in life["events"] if event["event_id"] == life["id"])
    return render(request, viewer, "event.html", title=life["event"]["type"], life=life, event=life["event"], own=own)
