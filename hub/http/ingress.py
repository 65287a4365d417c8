"""The providers' side: verify, parse, store, and only then answer (rules B1 to B5)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import Counter

from hub.actions.arrivals import Arrival
from hub.domain.errors import Unavailable
from hub.http.context import CONTEXT, Context
from hub.store.spool import Spooled
from providers.base import Handshake, Route, WebhookRequest

log = structlog.get_logger()

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a webhook's body; Meta documents 3 MB."""
_RETRY_AFTER: Final = "5"
WEBHOOKS = Counter("partyline_webhooks", "Provider webhooks by how they were answered", ["provider", "status"])

Handler = Callable[[web.Request], Awaitable[web.Response]]


def webhook(provider: str, route: Route) -> Handler:
    """The handler of one webhook path."""
    taken = WEBHOOKS.labels(provider, "200")

    async def handle(request: web.Request) -> web.Response:
        body = await _body(request)
        if body is None:
            WEBHOOKS.labels(provider, "413").inc()
            return web.Response(status=413, headers={"Connection": "close"})
        incoming = WebhookRequest(request.raw_path, _headers(request), body)
        if not route.verify(incoming):
            WEBHOOKS.labels(provider, "403").inc()
            log.warning("webhook.rejected", provider=provider, path=route.path)
            return web.Response(status=403)
        if not await _take_in(request.app[CONTEXT], provider, route, incoming):
            WEBHOOKS.labels(provider, "503").inc()
            return web.Response(status=503, headers={"Retry-After": _RETRY_AFTER})
        taken.inc()
        return web.Response(body=route.answer, content_type=route.content_type)

    return handle


def _headers(request: web.Request) -> Mapping[str, str]:
    """The headers; what is no text in the content type is replaced, since it is stored with what is kept."""
    kind = request.headers.get("content-type", "")
    if kind.isascii():
        return request.headers
    lowered = {name.lower(): value for name, value in request.headers.items()}
    return lowered | {"content-type": kind.encode("ascii", "replace").decode()}


async def _body(request: web.Request) -> bytes | None:
    """The raw bytes; None where there are too many, then unread if their number was announced."""
    if (request.content_length or 0) > MAX_BODY:
        return None
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


async def _take_in(context: Context, provider: str, route: Route, incoming: WebhookRequest) -> bool:
    """Make it durable, in the database or in the spool; False where neither could (B3)."""
    if route.repeats:
        return await _store(context, provider, route, incoming)
    is_first = context.spool.is_empty
    if is_first and await _store(context, provider, route, incoming):
        return True
    if await _spool(context, provider, route, incoming):
        return True
    # The disk is against it. Better before what waits there than lost, where the database was not asked yet.
    return not is_first and await _store(context, provider, route, incoming)


async def _store(context: Context, provider: str, route: Route, incoming: WebhookRequest) -> bool:
    try:
        await context.intake.submit([Arrival(item, provider, incoming, route) for item in route.parse(incoming)])
    except Unavailable as error:
        log.warning("webhook.not_stored", provider=provider, reason=error.detail)
        return False
    return True


async def _spool(context: Context, provider: str, route: Route, incoming: WebhookRequest) -> bool:
    """Keep the body of a provider that does not try again; once one is spooled, later ones wait behind it."""
    kept = {"content-type": incoming.headers.get("content-type", "")}
    try:
        await context.spool.append([Spooled(provider, route.path, incoming.path, kept, incoming.body)])
    except OSError:
        log.exception("spool.failed", provider=provider)
        return False
    log.warning("webhook.spooled", provider=provider)
    return True


def handshake(offered: Handshake) -> Handler:
    """The handler of a provider's GET that proves the path is ours."""

    async def handle(request: web.Request) -> web.Response:
        answer = offered.answer(request.query)
        return web.Response(status=403) if answer is None else web.Response(text=answer)

    return handle


def add_routes(app: web.Application, context: Context) -> None:
    """Put every provider's paths into the application."""
    for provider, route in context.routes.values():
        app.router.add_post(route.path, webhook(provider, route))
    for offered in context.handshakes:
        app.router.add_get(offered.path, handshake(offered))
