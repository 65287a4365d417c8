"""The console: pages for operators and for a service's own people; each module adds the routes of its pages."""

from aiohttp import web

from hub.http.console import (
    audit,
    campaigns,
    contacts,
    conversations,
    deliveries,
    events,
    live,
    login,
    merging,
    messages,
    numbers,
    overview,
    quarantine,
    search_page,
    services,
    traffic,
)
from hub.http.console.pages import not_found
from hub.http.console.rendering import HEADERS


def add_routes(app: web.Application) -> None:
    """Put the console into the application."""
    login.add_routes(app)
    for module in (live, overview, search_page, conversations, messages, events):
        module.add_routes(app)
    for module in (deliveries, quarantine, numbers, services, audit):
        module.add_routes(app)
    for module in (contacts, merging, campaigns, traffic):
        module.add_routes(app)
    app.router.add_route("*", "/console/{rest:.*}", not_found)
    app.on_response_prepare.append(_guard)


async def _guard(request: web.Request, response: web.StreamResponse) -> None:
    """Whatever answers under these paths, a refusal of aiohttp's included, carries the headers of their pages."""
    if request.path.partition("/")[2].partition("/")[0] in {"console", "docs"}:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
