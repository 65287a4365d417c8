"""What the link host answers, in bytes: a redirect with its cookies, or a line of text."""

from email.utils import formatdate
from http import HTTPStatus
from itertools import cycle
from secrets import randbelow
from time import time
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from prometheus_client import Counter

from hub.domain.link_tokens import RECEIPT_COOKIE, VISITOR_COOKIE
from hub.domain.stitching import RECEIPT_LIFE
from hub.http.visitor_cookies import RECEIPT_PATH, VISITOR_SECONDS

_ALWAYS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
_HEAD: Final = "".join(
    f"{line}\r\n"
    for line in ("HTTP/1.1 302 Found", *(f"{name}: {value}" for name, value in _ALWAYS.items()), "Content-Length: 0")
).encode()
_REST: Final = "Secure; HttpOnly; SameSite=Lax"
_SLOTS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RECEIPTS: Final = [
    f"{RECEIPT_COOKIE}{slot}=%s; Max-Age={RECEIPT_LIFE.seconds}; Path={RECEIPT_PATH}; {_REST}" for slot in _SLOTS
]
_receipts: Final = cycle(_RECEIPTS[(start := randbelow(len(_RECEIPTS))) :] + _RECEIPTS[:start])
"""A name that comes again takes the place of a receipt long used: so a browser holds no more of them than there is
room for in a request, and of two tabs opened together none loses its own.
"""

_UNREAD: Final = 64 * 1024
"""Bytes that may wait for a client: as many as asyncio lets wait before a write has to."""

REFUSED = Counter("partyline_link_refusals", "Requests to the link host that led nowhere", ["status"])


def cookies_of(visitor: str | None, receipt: str | None) -> list[str]:
    """The `Set-Cookie` lines that make a browser this visitor and give it this receipt."""
    lines = []
    if visitor is not None:
        lines.append(f"{VISITOR_COOKIE}={visitor}; Max-Age={VISITOR_SECONDS}; Path=/; {_REST}")
    if receipt is not None:
        lines.append(next(_receipts) % receipt)
    return lines


def with_key(target: str, key: str) -> str:
    """The target with a one-time key in its fragment, behind what stands there."""
    return f"{target}{'&' if '#' in target else '#'}_hk={key}"


def redirect(location: str, cookies: list[str]) -> web.Response:
    """302, the long way: for connections that end, or speak HTTP/1.0."""
    response = web.Response(status=302, headers={**_ALWAYS, "Location": location})
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response


def said(status: HTTPStatus, text: str, *, retry_after: int | None = None) -> web.Response:
    """A line of text, for people who end up here."""
    REFUSED.labels(str(status.value)).inc()
    headers = _ALWAYS if retry_after is None else {**_ALWAYS, "Retry-After": str(retry_after)}
    return web.Response(status=status, text=f"{text}\n", headers=headers)


class Ready(web.Response):
    """An answer whose bytes were written already: a fresh `Response` costs more than all the rest of a redirect. Only
    for HTTP/1.1 connections that stay open; nothing about it may be changed.
    """

    def __init__(self) -> None:
        super().__init__(status=302)
        self._second = 0
        self._opening = b""

    @property
    def keep_alive(self) -> bool:
        """The connection stays open."""
        return True

    def send(self, request: web.BaseRequest, location: str, cookies: list[str]) -> "Ready":
        """Write a redirect."""
        now = int(time())
        if now != self._second:
            self._second = now
            self._opening = b"%bDate: %b\r\n" % (_HEAD, formatdate(now, usegmt=True).encode())
        lines = "".join([f"Set-Cookie: {cookie}\r\n" for cookie in cookies])
        if request.transport is not None:
            request.transport.write(self._opening + f"Location: {location}\r\n{lines}\r\n".encode("ascii"))
        return self

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to write."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nor here."""


def may_be_ready(request: web.BaseRequest) -> bool:
    """Whether the connection stays open after this request, so far as it says, and its client reads what it is told:
    who only asks has to wait.
    """
    is_read = request.transport is None or request.transport.get_write_buffer_size() <= _UNREAD
    return is_read and request.keep_alive and request.version == HttpVersion11
