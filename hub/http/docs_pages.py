"""`GET /openapi.json`, the reference made of it, and the documents (docs/*.md), as pages for people."""

import asyncio
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

import orjson
from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hub.domain.errors import NotFound, Unauthorized
from hub.http import docs_text
from hub.http.answers.events import WEBHOOKS
from hub.http.auth import check_key
from hub.http.console.rendering import HEADERS
from hub.http.console.session import find_viewer
from hub.http.context import CONTEXT
from hub.http.openapi import describe
from hub.http.operations import Answer, operation
from hub.http.params import word_in_path
from hub.http.reference import reference_of

_STYLE: Final = "/docs/docs.css"
_PAGE: Final = word_in_path("page", "the name of a document, such as `errors`", "errors", pattern="^[A-Za-z0-9-/]+$")


@dataclass(frozen=True, slots=True)
class _Made:
    """What is made of an application's routes: its document, as bytes and as a page."""

    body: bytes
    tag: str
    reference: str


class _Kept:
    """Makes it once somebody asks for it: that takes a second, in a thread, so that nobody else waits."""

    def __init__(self) -> None:
        self._made: _Made | None = None
        self._lock = asyncio.Lock()

    async def get(self, app: web.Application) -> _Made:
        """What was made, or is made now."""
        async with self._lock:
            if self._made is None:
                self._made = await asyncio.to_thread(_make, app)
            return self._made


def _make(app: web.Application) -> _Made:
    document = document_of(app)
    body = orjson.dumps(document)
    introduction = Markup(docs_text.markdown(document["info"]["description"]))  # noqa: S704  ours
    reference = reference_of(document, app[CONTEXT].public_url.rstrip("/"))
    page = _render("reference.html", "", title="API reference", introduction=introduction, reference=reference)
    return _Made(body, sha256(body).hexdigest()[:16], page)


_KEPT: Final = web.AppKey("openapi", _Kept)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app[_KEPT] = _Kept()
    app.router.add_get("/openapi.json", get_openapi)
    app.router.add_get("/docs", show_reference)
    app.router.add_get(_STYLE, get_style)
    app.router.add_get("/docs/{page:[A-Za-z0-9-]+(?:/[A-Za-z0-9-]+)?}", show_page)


def _version() -> str:
    try:
        return version("partyline")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"


# For programs -------------------------------------------------------------------------------------------------------


def document_of(app: web.Application) -> dict[str, Any]:
    """The OpenAPI document of an application."""
    return describe(app, _version(), WEBHOOKS, docs_text.read_examples())


_TOLD: Final = {"ETag": "of this document", "Cache-Control": "ask whether it has changed"}


@operation(
    answers={
        200: Answer(dict[str, Any], "OpenAPI 3.1", headers=_TOLD),
        304: Answer(text="As it was", media_type=None, headers=_TOLD),
    },
    tag="Documents",
)
async def get_openapi(request: web.Request) -> web.Response:
    """This document: all of the API, made of the models that check requests."""
    made = await request.app[_KEPT].get(request.app)
    headers = {"ETag": f'W/"{made.tag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if {tag.value for tag in request.if_none_match or ()} & {made.tag, "*"}:
        return web.Response(status=304, headers=headers)
    response = web.Response(body=made.body, content_type="application/json", headers=headers)
    response.enable_compression()
    return response


# For people ---------------------------------------------------------------------------------------------------------

_MAY_READ: Final = (
    "Needs any key, or a session of the console, unless `PARTYLINE_OPEN_DOCS` is true; a browser without is sent to the"
    " login."
)
_PAGE_ANSWERS: Final = {
    200: Answer(text="The page", media_type="text/html", headers={"Content-Security-Policy": "what a page may do"}),
    303: Answer(text="To the login of the console", media_type=None, headers={"Location": "the login"}),
}
_CODES: Final = ("unauthorized", "too_many_requests", "unavailable")


@operation(answers=_PAGE_ANSWERS, codes=_CODES, scopes=_MAY_READ, tag="Documents")
async def show_reference(request: web.Request) -> web.Response:
    """The reference of the API, made of `/openapi.json`."""
    if login := await _find_login(request):
        return login
    return _answered((await request.app[_KEPT].get(request.app)).reference)


@operation(path=(_PAGE,), answers=_PAGE_ANSWERS, codes=_CODES, scopes=_MAY_READ, tag="Documents")
async def show_page(request: web.Request) -> web.Response:
    """One of the documents; `/docs/errors#code` is where the `type` of a problem leads to."""
    if login := await _find_login(request):
        return login
    name = _PAGE.read(request)
    page = docs_text.read_page(name)
    if page is None:
        raise NotFound(f"There is no document {name[:60]!r}: GET /docs has a list of them.")
    return _answered(_render("page.html", name, title=page.title, page=page, html=Markup(page.html)))  # noqa: S704


async def _find_login(request: web.Request) -> web.Response | None:
    """Where somebody goes first who may not read yet; None: they may. Raises `Unauthorized` for programs."""
    if request.app[CONTEXT].is_docs_open or await find_viewer(request) is not None:
        return None
    if "Authorization" in request.headers:
        await check_key(request)
        return None
    if "text/html" in request.headers.get("Accept", ""):
        there = f"/console/login?next={quote(request.path, safe='/')}"
        return web.Response(status=303, headers={"Location": there, "Cache-Control": "no-store"})
    raise Unauthorized("The documents need a key (rule H3): send any as 'Authorization: Bearer <key>'.")


def _answered(html: str) -> web.Response:
    response = web.Response(text=html, content_type="text/html", headers={**HEADERS, "Vary": "Accept-Encoding"})
    response.enable_compression()
    return response


def _render(template: str, current: str, **values: Any) -> str:
    pages = [(name, page.title) for name in docs_text.page_names() if (page := docs_text.read_page(name))]
    return _environment().get_template(template).render(current=current, pages=pages, style_url=_style()[1], **values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("hub.http", "docs"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


@cache
def _style() -> tuple[bytes, str]:
    """The style sheet, and its address, which changes with it."""
    body = files("hub.http").joinpath("docs", "docs.css").read_bytes()
    return body, f"{_STYLE}?v={sha256(body).hexdigest()[:16]}"


@operation(
    answers={200: Answer(text="CSS", media_type="text/css", headers={"Cache-Control": "public, for a year"})},
    tag="Documents",
)
async def get_style(_: web.Request) -> web.Response:
    """The style sheet of these pages."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=_style()[0], content_type="text/css", headers=headers)
