"""The providers' side: verify, parse, store, and only then answer (rules B1 to B5)."""

from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from time import time
from typing import Final

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from prometheus_client import Counter

from hub.actions.arrivals import Arrival
from hub.domain.errors import Unavailable
from hub.http.context import Context
from hub.store.spool import Spooled
from providers.base import Handshake, Route, WebhookRequest

log = structlog.get_logger()

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a webhook's body; Meta documents 3 MB."""
_RETRY_AFTER: Final = "5"
WEBHOOKS = Counter("partyline_webhooks", "Provider webhooks by how they were answered", ["provider", "status"])
SPOOLED = Counter("partyline_webhooks_spooled", "Webhooks kept on disk, as the database was away", ["provider"])

Handler = Callable[[web.Request], Awaitable[web.Response]]


class _Taken(web.Response):
    """The answer to every webhook that was taken in, in bytes made once a second: a fresh `Response` costs more than
    verifying a signature. Only for HTTP/1.1 connections that stay open; nothing about it may be changed.
    """

    def __init__(self, body: bytes, content_type: str) -> None:
        super().__init__(body=body, content_type=content_type)
        lines = ("HTTP/1.1 200 OK", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", "Date: ")
        self._head = "\r\n".join(lines).encode()
        self._rest = body
        self._second = 0
        self._wire = b""

    @property
    def keep_alive(self) -> bool:
        """The connection stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write all of it."""
        now = int(time())
        if now != self._second:
            self._second = now
            self._wire = b"%b%b\r\n\r\n%b" % (self._head, formatdate(now, usegmt=True).encode(), self._rest)
        if request.transport is not None:
            request.transport.write(self._wire)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


def webhook(provider: str, route: Route, context: Context) -> Handler:
    """The handler of one webhook path."""
    taken, answer = WEBHOOKS.labels(provider, "200"), _Taken(route.answer, route.content_type)
    take_in = _store if route.repeats else _store_or_spool

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
        if not await take_in(context, provider, route, incoming):
            WEBHOOKS.labels(provider, "503").inc()
            return web.Response(status=503, headers={"Retry-After": _RETRY_AFTER})
        taken.inc()
        if request.keep_alive and request.version == HttpVersion11 and not context.is_stopping.is_set():
            return answer
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
    if request.content.is_eof():  # all of it came along with the headers, as most do
        body = request.content.read_nowait()
        return body if len(body) <= MAX_BODY else None
    if (request.content_length or 0) > MAX_BODY:
        return None
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


async def _store_or_spool(context: Context, provider: str, route: Route, incoming: WebhookRequest) -> bool:
    """Make it durable, in the database or in the spool; False where neither could (B3)."""
    is_first = context.spool.is_empty
    if is_first and await _store(context, provider, route, incoming):
        return True
    if await _spool(context, provider, route, incoming):
        return True
    # The disk is against it. Better before what waits there than lost, where the database was not asked yet.
    return not is_first and await _store(context, provider, route, incoming)


async def _store(context: Context, provider: str, route: Route, incoming: WebhookRequest) -> bool:
    """Make it durable in the database; False where it could not (B3)."""
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
    SPOOLED.labels(provider).inc()
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
        app.router.add_post(route.path, webhook(provider, route, context))
    for offered in context.handshakes:
        app.router.add_get(offered.path, handshake(offered))
