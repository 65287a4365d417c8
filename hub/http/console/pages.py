"""What every page of the console goes through: session, scope, same origin, CSRF, and refusals people can read."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import structlog
from aiohttp import web
from pydantic import ValidationError

from hub.domain.errors import Forbidden, Invalid, NotFound, Refusal, TooLarge, Unavailable
from hub.http.console.rendering import HEADERS, NAVIGATION, SESSION, is_swap, render
from hub.http.console.session import Session, Viewer, find_session, find_viewer, set_cookie
from hub.http.context import CONTEXT
from hub.http.problems import invalid
from hub.store import console_sessions
from hub.store.pool import BadData, TryAgain

__all__ = ["HEADERS", "NAVIGATION", "Viewer", "find_viewer", "form", "page", "render", "see_other", "set_cookie"]

log = structlog.get_logger()

PageHandler = Callable[[web.Request, Viewer], Awaitable[web.StreamResponse]]
FormHandler = Callable[[web.Request, Viewer, Mapping[str, str]], Awaitable[web.StreamResponse]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NOTICE: Final = web.RequestKey("console_notice", str)
_LONG_NOTICE: Final = 1000
_LONG_PATH: Final = 2000


def page(handler: PageHandler, scope: str | None = None, *, operator_only: bool = False) -> Handler:
    """A page for whoever is logged in and has the scope; others are asked to log in, or told what is missing."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        viewer = None
        try:
            session = await find_session(request)
            if session is None:
                return to_login(request)
            request[SESSION], viewer = session, session.viewer
            _require(viewer, scope, operator_only=operator_only)
            response = await handler(request, viewer)
            await _keep_notice(request, session, response)
        except Exception as error:
            return problem_page(request, viewer, refusal_of(request, error))
        return response

    return guarded


def form(handler: FormHandler, scope: str | None = None, *, operator_only: bool = False) -> Handler:
    """Takes a form that was posted from one of our own pages; a refusal goes back to that page, and is told there."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        viewer = None
        try:
            session = await find_session(request)
            if session is None:
                return to_login(request)
            request[SESSION], viewer = session, session.viewer
            check_origin(request)
            fields = await read_fields(request)
            if not hmac.compare_digest(fields.get("csrf", "").encode(), viewer.csrf.encode()):
                raise Forbidden(
                    "This form is not from this session, or is from before you logged in: open its page again.",
                    code="csrf",
                )
            try:
                _require(viewer, scope, operator_only=operator_only)
                response = await handler(request, viewer, fields)
            except (Refusal, ValidationError) as error:
                back = safe_path(fields.get("back"))
                response = see_other(request, back, notice=_said(refusal_of(request, error)), is_error=True)
            await _keep_notice(request, session, response)
        except Exception as error:
            return problem_page(request, viewer, refusal_of(request, error))
        return response

    return guarded


def see_other(request: web.Request, url: str, notice: str | None = None, *, is_error: bool = False) -> web.Response:
    """Post, redirect, get: on to a page, which shows the notice once."""
    if notice is not None:
        request[_NOTICE] = ("!" if is_error else " ") + notice[:_LONG_NOTICE].replace("\x00", "")
    return web.Response(status=303, headers=HEADERS | {"Location": url})


def to_login(request: web.Request) -> web.Response:
    """To the login page, and from there back to where they were going."""
    if request.headers.get("Sec-Fetch-Dest") == "empty" or is_swap(request):
        # A script asks; a login page would not help it.
        return web.Response(status=401, text="logged out", headers=HEADERS)
    wanted = request.path_qs if request.method in {"GET", "HEAD"} else "/console"
    onward = "" if safe_path(wanted) != wanted or wanted == "/console" else "?next=" + quote(wanted, safe="/")
    return web.Response(status=303, headers=HEADERS | {"Location": "/console/login" + onward})


def safe_path(text: str | None) -> str:
    """A path of console or documents that one may be sent on to; the overview for anything else."""
    if not text or len(text) > _LONG_PATH or "\\" in text or any(ord(c) <= 32 or ord(c) >= 127 for c in text):
        return "/console"
    path = unquote(text.partition("?")[0].partition("#")[0])
    is_ours = any(path == root or path.startswith(root + "/") for root in ("/console", "/docs"))
    is_plain = ".." not in path and "//" not in path and "\\" not in path
    is_door = path in {"/console/login", "/console/logout"}
    return text if is_ours and is_plain and not is_door and text.startswith("/") else "/console"


def check_origin(request: web.Request) -> None:
    """Raises `Forbidden` where a browser says that another site posts this. It says so in `Sec-Fetch-Site`; where that
    is absent (plain http), in `Origin`, which our own pages may leave `null` since they send no referrer.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin", "null")
    ours = {urlsplit(request.app[CONTEXT].public_url).netloc.lower(), request.host.lower()}
    is_ours = site == "same-origin" if site is not None else True
    if not is_ours or (origin != "null" and origin.partition("://")[2].lower() not in ours):
        raise Forbidden("This form was sent from another site, so nothing was done (rule H3).", code="csrf")


async def read_fields(request: web.Request) -> Mapping[str, str]:
    """The fields of a form as text; of several of one name the last, with all of them joined by lines."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Invalid("this takes a form")
    try:
        posted = await request.post()
    except (LookupError, ValueError) as error:  # a charset that there is not, bytes that it does not have
        raise Invalid("this form cannot be read") from error
    fields: dict[str, str] = {}
    for name, value in posted.items():
        if isinstance(value, str):
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    return fields


def _require(viewer: Viewer, scope: str | None, *, operator_only: bool) -> None:
    if operator_only and not viewer.is_operator:
        raise Forbidden(
            "This page is the operator's (rule H3): log in with the operator's key, or ask the operator.",
            code="operator_only",
        )
    if not viewer.may(scope):
        raise Forbidden(
            f"The key you logged in with lacks the scope {scope!r} (rule E3): have the operator give it to"
            f" {viewer.name}; it holds from the next page on.",
            code="missing_scope",
        )


async def _keep_notice(request: web.Request, session: Session, response: web.StreamResponse) -> None:
    """Keep what the next page is to say; forget what this one said."""
    notice = request.get(_NOTICE)
    is_shown = session.notice is not None and response.content_type == "text/html" and not is_swap(request)
    if notice is not None or (is_shown and response.status == 200):
        async with request.app[CONTEXT].database.reading() as conn:
            await console_sessions.set_notice(conn, session.token_hash, notice)


# Refusals people can read -------------------------------------------------------------------------------------------


def refusal_of(request: web.Request, error: Exception) -> Refusal:
    """Whatever was raised, as a refusal; what nobody foresaw is logged."""
    match error:
        case Refusal():
            return error
        case ValidationError():
            return invalid(error)
        case TryAgain():
            return Unavailable("Too much is happening at once: try again.")
        case BadData():
            return Invalid("This holds a value that cannot be stored or compared.")
        case web.HTTPRequestEntityTooLarge():
            return TooLarge("That is over the limit.")
        case web.HTTPException():
            refusal = Refusal(error.reason)
            refusal.status = error.status
            return refusal
        case _:
            log.error("console.failed", method=request.method, path=request.path, exc_info=error)
            broken = Refusal("The hub failed on this page; its log says more.", code="internal")
            broken.status = 500
            return broken


def _said(refusal: Refusal) -> str:
    """A refusal in one text, its faults included."""
    faults = [f"{fault.pointer.strip('/') or 'the form'}: {fault.detail}" for fault in refusal.errors]
    return " · ".join([refusal.detail, *faults])


_TITLES: Final = {
    400: "That did not work",
    403: "Not with this key",
    404: "Nothing here",
    422: "That cannot be",
    429: "Too often",
    500: "The hub failed",
    503: "Not now",
}
_CURES: Final = {
    403: "Log out and in with a key that may, or go back to what this one may see.",
    404: "It may have been removed, be another number's, or never have been: search for it by its id, or go back.",
    429: "Wait as long as it says, then try again.",
    500: "Try again; if it stays, see console.failed in the hub's log, or tell who runs it this page's address.",
    503: "Nothing was changed. Reload in a moment; if it stays, the hub's database is away: see /readyz.",
}


def problem_page(request: web.Request, viewer: Viewer | None, refusal: Refusal) -> web.Response:
    """What went wrong, what to do, and a way back."""
    response = render(
        request,
        viewer,
        "problem.html",
        title=_TITLES.get(refusal.status, "That did not work"),
        status=refusal.status,
        refusal=refusal,
        cure=_CURES.get(refusal.status, "Go back and change what is named."),
    )
    if wait := refusal.facts.get("retry_after"):
        response.headers["Retry-After"] = str(wait)
    return response


async def not_found(request: web.Request) -> web.StreamResponse:
    """Where the console has no page."""
    viewer = None
    try:
        session = await find_session(request)
        if session is None:
            return to_login(request)
        request[SESSION], viewer = replace(session, notice=None), session.viewer
        raise NotFound("The console has no such page.")
    except Exception as error:
        return problem_page(request, viewer, refusal_of(request, error))
