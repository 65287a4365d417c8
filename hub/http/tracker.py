"""`GET /t.js`: the tracker that a site's pages load, with the consent mode filled in (docs/tracker.md)."""

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from aiohttp import web

from hub.domain.tracking import ConsentMode
from hub.http.context import CONTEXT
from hub.http.operations import Answer, operation

MAX_AGE: Final = 3600
"""Seconds a browser keeps the script; so long an update takes to arrive everywhere."""
_MODE: Final = 'const MODE = "required";'
_SOURCE: Final = files("hub.http").joinpath("t.js").read_text()


@dataclass(frozen=True, slots=True)
class Script:
    """The tracker as it is served, plain and compressed; each has an entity tag of its own."""

    plain: bytes
    compressed: bytes
    tag: str

    def etag(self, *, is_compressed: bool) -> str:
        """What is told of this form in `ETag`, without its quotes."""
        return f"{self.tag}-gzip" if is_compressed else self.tag


@cache
def script_for(mode: ConsentMode) -> Script:
    """The tracker for sites of a hub with this consent mode."""
    before, found, after = _SOURCE.partition(_MODE)
    assert found, "t.js has no line for the consent mode"
    plain = f"{before}{_MODE.replace('required', mode)}{after}".encode()
    return Script(plain, gzip.compress(plain, mtime=0), sha256(plain).hexdigest()[:16])


def add_routes(app: web.Application) -> None:
    """Put the tracker into the application."""
    app.router.add_get("/t.js", serve)


_SERVED: Final = {"ETag": "of this form of it", "Cache-Control": "public, for an hour", "Vary": "Accept-Encoding"}


@operation(
    answers={
        200: Answer(text="The script", media_type="text/javascript", headers=_SERVED),
        304: Answer(text="As it was", media_type=None, headers=_SERVED),
    },
    tag="Tracked sites",
)
async def serve(request: web.Request) -> web.Response:
    """The script, or 304 to a browser that has it."""
    script = script_for(request.app[CONTEXT].tracking.consent)
    is_compressed = takes_gzip(request.headers.get("Accept-Encoding", ""))
    headers = {
        "ETag": f'"{script.etag(is_compressed=is_compressed)}"',
        "Cache-Control": f"public, max-age={MAX_AGE}",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Access-Control-Allow-Origin": "*",
    }
    known = {tag.value for tag in request.if_none_match or ()}
    if known & {script.etag(is_compressed=is_compressed), "*"}:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = "text/javascript; charset=utf-8"
    if is_compressed:
        return web.Response(body=script.compressed, headers=headers | {"Content-Encoding": "gzip"})
    return web.Response(body=script.plain, headers=headers)


def takes_gzip(accepted: str) -> bool:
    """Whether an `Accept-Encoding` header allows gzip."""
    for part in accepted.lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in {"gzip", "*"}:
            return quality.replace(" ", "").rstrip("0.") != "q="
    return False
