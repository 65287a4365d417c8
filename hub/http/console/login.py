"""In and out of the console, and its static files. Keys are in the body of one form, and nowhere else."""

from collections import OrderedDict, deque
from ipaddress import IPv6Address, ip_network
from math import ceil
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from hub.domain.errors import NotFound, TooMany
from hub.http.client_address import CLIENTS
from hub.http.console.pages import (
    HEADERS,
    Viewer,
    check_origin,
    form,
    problem_page,
    read_fields,
    refusal_of,
    render,
    safe_path,
)
from hub.http.console.rendering import assets
from hub.http.console.session import drop_cookie, find_viewer, hash_token, is_secure, log_in, set_cookie, token_of
from hub.http.context import CONTEXT
from hub.store import console_sessions

log = structlog.get_logger()

MOST_FAILURES: Final = 10
"""Wrong keys from one address within `WINDOW` seconds (H4); each process counts by itself."""
WINDOW: Final = 60.0
_REMEMBERED: Final = 20_000
_LONG_KEY: Final = 500


class FailedLogins:
    """Wrong keys by address. A try counts when it begins, so that many at once are no way around."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, address: str, now: float) -> None:
        """Count a try. Raises `TooMany`, and then it does not count."""
        tries = self._tries.setdefault(address, deque())
        self._tries.move_to_end(address)
        if len(self._tries) > _REMEMBERED:
            self._tries.popitem(last=False)
        while tries and tries[0] <= now - WINDOW:
            tries.popleft()
        if len(tries) >= MOST_FAILURES:
            wait = max(1, ceil(tries[0] + WINDOW - now))
            raise TooMany(
                f"There were {MOST_FAILURES} wrong keys from this address within a minute (rule H4): wait {wait} s.",
                code="too_many_logins",
                retry_after=wait,
            )
        tries.append(now)

    def forgive(self, address: str, began: float) -> None:
        """It was the right key."""
        tries = self._tries.get(address)
        if tries and began in tries:
            tries.remove(began)


FAILED_LOGINS: Final = web.AppKey("failed_logins", FailedLogins)


def add_routes(app: web.Application) -> None:
    """Put the doors into the application."""
    app[FAILED_LOGINS] = FailedLogins()
    app.router.add_get("/console/login", show_login)
    app.router.add_post("/console/login", post_login)
    app.router.add_post("/console/logout", form(post_logout))
    app.router.add_get("/console/static/{name}", serve_asset)


async def show_login(request: web.Request) -> web.StreamResponse:
    """The form; whoever is logged in is sent on."""
    onward = safe_path(request.query.get("next"))
    try:
        if await find_viewer(request):
            return web.Response(status=303, headers=HEADERS | {"Location": onward})
    except Exception as error:
        return problem_page(request, None, refusal_of(request, error))
    return _form(request, onward)


def _form(request: web.Request, onward: str, wrong: str | None = None, status: int = 200) -> web.Response:
    """`elsewhere`: where browsers keep the session, if it is not here."""
    context = request.app[CONTEXT]
    is_here = request.host == urlsplit(context.public_url).netloc or not is_secure(context)
    elsewhere = None if is_here else context.public_url.rstrip("/")
    return render(
        request, None, "login.html", title="Log in", onward=onward, wrong=wrong, status=status, elsewhere=elsewhere
    )


async def post_login(request: web.Request) -> web.StreamResponse:
    """Begin a session, with a token that nobody has seen before; a session the browser has is ended."""
    context, began = request.app[CONTEXT], monotonic()
    try:
        check_origin(request)
        fields = await read_fields(request)
        onward, key = safe_path(fields.get("next")), fields.get("key", "").strip()
        if not key or len(key) > _LONG_KEY:
            return _form(
                request, onward, "Paste an API key: it begins with plk_ unless the operator chose another.", 422
            )
        address = _address_of(request)
        request.app[FAILED_LOGINS].begin(address, began)
        async with context.database.transaction() as conn:
            if old := token_of(request):
                await console_sessions.end_session(conn, hash_token(old))
            token = await log_in(conn, context, key)
    except Exception as error:
        return problem_page(request, None, refusal_of(request, error))
    if token is None:
        log.warning("console.login_refused", client=request.app[CLIENTS].prefix_of(request))
        return _form(request, onward, "This key is not valid: it may have been revoked, or not be copied whole.", 401)
    request.app[FAILED_LOGINS].forgive(address, began)
    log.info("console.logged_in", client=request.app[CLIENTS].prefix_of(request))
    response = web.Response(status=303, headers=HEADERS | {"Location": onward})
    set_cookie(request, response, token)
    return response


def _address_of(request: web.Request) -> str:
    """Whose tries are counted together: of IPv6, everybody has a whole /64."""
    found = request.app[CLIENTS].of(request)
    return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else str(found)


async def post_logout(request: web.Request, _: Viewer, __: object) -> web.StreamResponse:
    """End the session, here and in every tab."""
    token = token_of(request)
    assert token is not None
    async with request.app[CONTEXT].database.transaction() as conn:
        await console_sessions.end_session(conn, hash_token(token))
    response = web.Response(status=303, headers=HEADERS | {"Location": "/console/login"})
    drop_cookie(request, response)
    return response


async def serve_asset(request: web.Request) -> web.StreamResponse:
    """A static file, for good: its address holds the hash of its content."""
    found = next((asset for asset in assets().values() if asset.url == request.path), None)
    if found is None:
        raise NotFound("There is no such file.")
    headers = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}
    return web.Response(body=found.body, content_type=found.content_type, charset="utf-8", headers=headers)
