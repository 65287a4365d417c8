"""The console: whatever somebody has in hand, found: a phone, a name, any id of ours or of a provider's."""

from urllib.parse import quote

from aiohttp import web

from hub.actions.search import LONGEST, Hit, search
from hub.domain.errors import Invalid
from hub.http.console.pages import page, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT

_PLACES = {
    "message": "/console/messages/",
    "conversation": "/console/conversations/",
    "event": "/console/events/",
    "contact": "/console/contacts/",
    "service": "/console/services/",
    "number": "/console/numbers/",
}


def add_routes(app: web.Application) -> None:
    """Put this page into the application."""
    app.router.add_get("/console/search", page(show_search, "read"))


async def show_search(request: web.Request, viewer: Viewer) -> web.Response:
    """What was found; an id that is somebody's leads there at once."""
    query = request.query.get("q", "").strip()
    if len(query) > LONGEST:
        raise Invalid(f"That is longer than anything that can be found: at most {LONGEST} characters.")
    context = request.app[CONTEXT]
    hits: list[Hit] = []
    if query:
        async with context.database.transaction() as conn:
            hits = await search(conn, context.view(viewer.service_id), query, context.phone_region)
    if hits and hits[0].id == query:
        return see_other(request, url_of(hits[0]))
    found = [{"hit": hit, "url": url_of(hit)} for hit in hits]
    return render(request, viewer, "search.html", title="Search", query=query, found=found)


def url_of(hit: Hit) -> str:
    """Where it is shown."""
    return _PLACES[hit.kind] + quote(hit.id, safe="+")
