"""The cookies of a visitor: `__Host-hv`, which is the visitor, and receipts, which prove a click to be this browser's.

They are read from the `Cookie` header only, never from a URL or a body, so that nobody can plant one with a link. They
have no `Domain`: no other host under the site's domain gets them, or can set them.
"""

from collections.abc import Iterator
from typing import Final

from aiohttp import web

from hub.domain.link_tokens import RECEIPT_COOKIE, VISITOR_COOKIE, visitor_id

VISITOR_SECONDS: Final = 400 * 24 * 3600
"""The longest that browsers keep a cookie."""
RECEIPT_PATH: Final = "/collect"
MOST_RECEIPTS: Final = 20
"""Receipts of one request that are looked at: nobody follows more links in half an hour."""
_FIRST_PARTY: Final = "Secure; HttpOnly; SameSite=Lax"
_THIRD_PARTY: Final = "Secure; HttpOnly; SameSite=None; Partitioned"


def read_visitor(request: web.Request) -> str | None:
    """The secret of the visitor's cookie; None where there is none of ours."""
    return next((value for name, value in _cookies(request) if name == VISITOR_COOKIE and _is_ours(value)), None)


def read_receipts(request: web.Request) -> dict[str, str]:
    """The receipts the browser holds: secrets by the names of their cookies."""
    found = [(n, v) for n, v in _cookies(request) if n.startswith(RECEIPT_COOKIE) and _is_ours(v)]
    return dict(found[-MOST_RECEIPTS:])  # of one path, browsers send the oldest first


def set_visitor(response: web.StreamResponse, secret: str, *, is_partitioned: bool = False) -> None:
    """Make the browser this visitor. `is_partitioned`: the site is not on the domain that sets it."""
    rest = _THIRD_PARTY if is_partitioned else _FIRST_PARTY
    _set(response, f"{VISITOR_COOKIE}={secret}; Max-Age={VISITOR_SECONDS}; Path=/; {rest}")


def clear_receipt(response: web.StreamResponse, name: str) -> None:
    """Take a receipt away, by the name of its cookie."""
    _set(response, f"{name}=; Max-Age=0; Path={RECEIPT_PATH}; {_FIRST_PARTY}")


def _set(response: web.StreamResponse, cookie: str) -> None:
    response.headers.add("Set-Cookie", cookie)  # the standard library's cookies do not know Partitioned


def _is_ours(secret: str) -> bool:
    return visitor_id(secret) is not None


def _cookies(request: web.Request) -> Iterator[tuple[str, str]]:
    """Name and value of each, as they stand: one that is odd does not hide the others."""
    for header in request.headers.getall("Cookie", []):
        for part in header.split(";"):
            name, _, value = part.strip(" \t").partition("=")
            yield name.rstrip(" \t"), value.strip(' \t"')
