"""Which host a request is for, and what is served there (rule F).

The link host is on the customers' side: it serves tracked links and what their pages need, and nothing else. It looks
at requests before the application does, so that neither pays for the other.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Final, Literal, TypeVar

import structlog
from aiohttp import web
from multidict import istr

from hub.domain.link_tokens import token_of
from hub.domain.tracking import Tracking
from hub.http.link_answers import said
from hub.http.redirect import Redirect

log = structlog.get_logger()

Response = TypeVar("Response", bound=web.StreamResponse)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Role = Literal["links", "collector", "shared", "other"]
"""`shared`: links are served there, and the API."""

_HOST: Final = istr("Host")
_METHODS: Final = ("GET", "HEAD")
_PAGE_PATHS: Final = frozenset({"/t.js", "/collect"})
_LONG: Final = 300
"""Characters of a `Host` header that no host of ours has."""
_REMEMBERED: Final = 256


class LinkHost:
    """Stands before an application; `public` is the authority (host and port) of its API."""

    def __init__(self, tracking: Tracking, public: str, redirect: Redirect, is_stopping: Callable[[], bool]) -> None:
        self._redirect = redirect
        self._is_stopping = is_stopping
        self._role_of = lru_cache(_REMEMBERED)(lambda host: role_of(host, tracking, public))

    def before(self, handler: Handler) -> Handler:
        """The handler of every request, where this one is the application's."""

        def route(request: web.Request) -> Awaitable[web.StreamResponse]:
            host = request.headers.get(_HOST, "")
            role = self._role_of(host) if len(host) < _LONG else "other"
            if role == "other":
                return handler(request)
            token = token_of(request.raw_path) if role != "collector" else None
            if token is not None and request.method in _METHODS:
                return self._follow(request, token)
            if role == "shared" or request.raw_path.partition("?")[0] in _PAGE_PATHS:
                return handler(request)
            return self._refuse(is_there=token is not None)

        return route

    async def _follow(self, request: web.Request, token: str) -> web.StreamResponse:
        try:
            return self._last(await self._redirect.follow(request, token))
        except Exception:
            log.exception("link.failed", method=request.method)
            return self._last(said(HTTPStatus.INTERNAL_SERVER_ERROR, "Please try again in a moment."))

    async def _refuse(self, *, is_there: bool) -> web.Response:
        if not is_there:
            return self._last(said(HTTPStatus.MISDIRECTED_REQUEST, "There is nothing here."))
        refusal = said(HTTPStatus.METHOD_NOT_ALLOWED, "Links can only be followed.")
        refusal.headers["Allow"] = ", ".join(_METHODS)
        return self._last(refusal)

    def _last(self, response: Response) -> Response:
        """A connection's last answer says so, where the process is about to end."""
        if self._is_stopping():
            response.force_close()
            response.headers["Connection"] = "close"
        return response


def role_of(host: str, tracking: Tracking, public: str) -> Role:
    """What a host is there for, by the `Host` header of a request to it."""
    if not tracking.link_base:
        return "other"
    given, is_public = plain(host), plain(host) == plain(public)
    if given == plain(tracking.link_authority):
        return "shared" if is_public else "links"
    return "collector" if given == plain(tracking.collector_authority) and not is_public else "other"


def plain(host: str) -> str:
    """A host as it is compared: in small letters, without the root's dot or a usual port."""
    name, _, port = host.strip().lower().rpartition(":")
    if not name or port.endswith("]") or not (port.isdecimal() or not port):
        name, port = host.strip().lower(), ""
    name = name.removesuffix(".")
    return name if port in {"", "80", "443"} else f"{name}:{port}"
