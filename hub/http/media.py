"""Files: uploaded once by a service, fetched by whoever has a signed address (rule E10)."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import time
from typing import Any, Final
from urllib.parse import quote

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from hub.actions.roster import Caller
from hub.actions.uploads import add_upload
from hub.domain import kinds
from hub.domain.errors import Fault, Forbidden, Invalid, NotFound, TooLarge
from hub.domain.ids import parse_id
from hub.domain.media_links import PREFIX
from hub.http.auth import service
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.store import media
from hub.store.files import Incoming

_PIECE: Final = 256 * 1024
_MAX_NAME: Final = 240
_UNKNOWN: Final = "application/octet-stream"
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f-\x9f/\\"\u200e\u200f\u202a-\u202e\u2066-\u2069]')
"""Also what turns the direction of writing, and so hides a name's ending."""

_Piece = Callable[[], Awaitable[bytes]]


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_post("/v1/media", service(upload))
    app.router.add_get("/media/{id}", fetch)


async def upload(request: web.Request, caller: Caller) -> web.Response:
    """Take a file in, as the one part of a form or as the whole body; 201 with its id."""
    context = request.app[CONTEXT]
    if not caller.scopes & {"reply", "automate"}:
        raise Forbidden("this key lacks the scope 'reply' or 'automate' (rule E3)", code="missing_scope", scope="reply")
    if (request.content_length or 0) > 2 * context.files.max_bytes:  # else it is counted as it comes
        raise TooLarge(f"a file has at most {context.files.max_bytes} bytes: make it smaller (rule E10)")
    async with context.files.receiving() as incoming, _read_errors():
        if request.content_type.startswith("multipart/"):
            mime_type, filename = await _read_form(request, incoming)
        else:
            mime_type, filename = _described(
                request.content_type, request.headers, request.query.get("filename"), "/filename"
            )
            await _copy(lambda: request.content.read(_PIECE), incoming)
        if incoming.size == 0:
            raise Invalid(
                "the file is empty: send its bytes (rule E10)", errors=[Fault("/file", "missing", "holds no bytes")]
            )
        kept = await incoming.keep()
    async with context.database.transaction() as conn:
        view = await add_upload(
            conn, caller.service_id, kept, mime_type=mime_type, filename=filename, now=datetime.now(UTC)
        )
    return answer(view, status=201)


@asynccontextmanager
async def _read_errors() -> AsyncIterator[None]:
    """What aiohttp finds wrong with a body. Raises `Invalid`."""
    try:
        yield
    except (ValueError, HttpProcessingError, web.RequestPayloadError, ConnectionError) as error:
        raise Invalid(
            f"the body cannot be read ({type(error).__name__}): send a form with one file, or its bare bytes (rule E10)"
        ) from error


async def _read_form(request: web.Request, incoming: Incoming) -> tuple[str, str]:
    reader = await request.multipart()
    part = await reader.next()
    if not isinstance(part, BodyPartReader):
        raise _one_part()
    mime_type, filename = _described(
        part.headers.get("Content-Type", "").partition(";")[0], part.headers, part.filename, "/file"
    )
    if part.headers.get("Content-Transfer-Encoding", "binary").lower() not in {"binary", "8bit", "7bit"}:
        raise Invalid("send the file as it is, without Content-Transfer-Encoding (rule E10)")
    await _copy(lambda: part.read_chunk(_PIECE), incoming)
    await _check_end(reader)
    return mime_type, filename


async def _check_end(reader: MultipartReader) -> None:
    if await reader.next() is not None:
        raise _one_part()


def _one_part() -> Invalid:
    return Invalid(
        "send one file, as the only part of the form (rule E10)", errors=[Fault("/file", "one_file", "is one part")]
    )


async def _copy(read: _Piece, incoming: Incoming) -> None:
    while piece := await read():
        await incoming.write(piece)


def _described(content_type: str, headers: Any, name: str | None, pointer: str) -> tuple[str, str]:
    """Type and name of a file. Raises `Invalid` for a type that no medium carries, before any of it is read."""
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Invalid("send the file as it is, without Content-Encoding (rule E10)")
    filename = safe_name(name or "")
    mime_type = kinds.bare_mime_type(content_type)
    if mime_type in {"", _UNKNOWN}:
        mime_type = kinds.guess_mime_type(filename) or _UNKNOWN
    if mime_type not in kinds.MIME_TYPES:
        raise Invalid(
            f"files of type {mime_type} cannot be sent; these can: {', '.join(sorted(kinds.MIME_TYPES))} (rule E10).",
            code="media_type_unsupported",
            errors=[Fault(pointer, "media_type_unsupported", "see detail")],
        )
    return mime_type, filename or f"file{kinds.extension_of(mime_type)}"


def safe_name(name: str) -> str:
    """A file name without path and without what does not belong into a header or a store."""
    bare = name.replace("\\", "/").rpartition("/")[2].encode("utf-8", "ignore").decode()
    return _UNSAFE.sub("", bare).strip()[-_MAX_NAME:]


async def fetch(request: web.Request) -> web.StreamResponse:
    """A file, for whoever has its signed address; all that is wrong is not there."""
    context, name = request.app[CONTEXT], request.match_info["id"]
    expires, signature = request.query.get("expires", ""), request.query.get("signature", "")
    if not context.media_links.is_valid(name, expires, signature, time()):
        raise _no_file()
    media_id = parse_id(PREFIX, name)
    async with context.database.reading() as conn:
        row = (await media.list_media(conn, [media_id])).get(media_id)
    if row is None:
        raise _no_file()
    path = context.files.path(row["sha256"])
    if not path.is_file():
        raise _no_file()
    return web.FileResponse(path, chunk_size=_PIECE, headers=_headers(row["mime_type"], row["filename"]))


def _no_file() -> NotFound:
    return NotFound("there is no file at this address, or the address has expired")


def _headers(mime_type: str, filename: str) -> dict[str, str]:
    """A file that a stranger's browser opens must neither be guessed at nor run as a page of ours."""
    plain = "".join(c if c.isascii() and c.isprintable() else "_" for c in filename)
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
    return {
        "Content-Type": mime_type,
        "Content-Disposition": disposition,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-store",
        "Referrer-Policy": "no-referrer",
    }
