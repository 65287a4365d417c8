"""Files: uploaded once by a service, or sent by a customer; fetched by whoever has a signed address (rule E10)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import structlog
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from hub.actions.media_access import file_view, find_file, no_file, refetch, unavailable
from hub.actions.roster import Caller
from hub.actions.uploads import add_upload
from hub.domain import kinds
from hub.domain.errors import Fault, Forbidden, Invalid, NotYet, TooLarge, Unavailable
from hub.domain.ids import parse_id, public_id
from hub.domain.inbound_media import retry_after
from hub.domain.media_links import OPERATOR, PREFIX
from hub.domain.mime_types import UNKNOWN, bare_mime_type, safe_name
from hub.http.answers.media import KnownFile, Uploaded
from hub.http.auth import operator, service
from hub.http.context import CONTEXT
from hub.http.operations import Answer, Body, operation
from hub.http.params import in_path, word
from hub.http.problems import answer
from hub.store.files import Incoming
from hub.store.keeping import keeping
from hub.store.pool import Record

log = structlog.get_logger()

_PIECE: Final = 256 * 1024

_MOMENT: Final = 1.0
"""Seconds to wait for a file that is being fetched: a service that hears of a message asks for its files at once."""
_PAUSE: Final = 0.1

_Piece = Callable[[], Awaitable[bytes]]

_FILE: Final = in_path(PREFIX, "the file")
_FILENAME: Final = word("filename", "its name, where the body is the bare bytes")
_SERVICE: Final = word("service", "for whom it was signed", default="")
_EXPIRES: Final = word("expires", "until when it holds, in unix seconds", default="")
_SIGNATURE: Final = word("signature", "of all the rest", default="")
_HEADERS: Final = {
    "Content-Disposition": "an attachment, with the name of the file",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "a sandbox",
    "Accept-Ranges": "bytes",
}
_GONE: Final = ("media_unavailable",)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_post("/v1/media", service(upload))
    app.router.add_get("/v1/media/{id}", service(get_file, "read"))
    app.router.add_post("/v1/media/{id}/refetch", service(post_refetch, "read"))
    app.router.add_get("/v1/admin/media/{id}", operator(get_any_file))
    app.router.add_post("/v1/admin/media/{id}/refetch", operator(post_any_refetch))
    app.router.add_get("/media/{id}", fetch)


@operation(
    query=(_FILENAME,),
    body=Body(media_types=("multipart/form-data", "*/*"), text="One file, as the only part of a form or as the body"),
    answers={201: Uploaded},
    codes=("media_type_unsupported", "media_too_large"),
    scopes="with the scope `reply` or `automate`",
)
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
                request.content_type, request.headers, _FILENAME.find(request), "/filename"
            )
            await _copy(lambda: request.content.read(_PIECE), incoming)
        if incoming.size == 0:
            raise Invalid(
                "the file is empty: send its bytes (rule E10)", errors=[Fault("/file", "missing", "holds no bytes")]
            )
        async with keeping(context.database, context.files, incoming) as (conn, kept):
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
    mime_type = bare_mime_type(content_type)
    if mime_type in {"", UNKNOWN}:
        mime_type = kinds.guess_mime_type(filename) or UNKNOWN
    if mime_type not in kinds.MIME_TYPES:
        raise Invalid(
            f"files of type {mime_type} cannot be sent; these can: {', '.join(sorted(kinds.MIME_TYPES))} (rule E10).",
            code="media_type_unsupported",
            errors=[Fault(pointer, "media_type_unsupported", "see detail")],
        )
    return mime_type, filename or f"file{kinds.extension_of(mime_type)}"


# Fetching -----------------------------------------------------------------------------------------------------------


@operation(
    path=(in_path(PREFIX, "the file, with the rest of its signed address"),),
    query=(_SERVICE, _EXPIRES, _SIGNATURE),
    answers={
        200: Answer(text="The file", media_type="*/*", headers=_HEADERS),
        206: Answer(
            text="The part of it that `Range` asked for",
            media_type="*/*",
            headers=_HEADERS | {"Content-Range": "which part, and of how much"},
        ),
        416: Answer(text="It has no such part", media_type="*/*", headers={"Content-Range": "how much there is"}),
    },
    codes=("media_pending", "media_unavailable", "unavailable"),
    scopes="Needs no key: the address is signed, for one service, and expires.",
)
async def fetch(request: web.Request) -> web.StreamResponse:
    """A file, for whoever has its signed address and may still have the file; all that is wrong is not there. One that
    is on its way is waited for a little.
    """
    context, name = request.app[CONTEXT], request.match_info["id"]
    whom, expires, signature = _SERVICE.read(request), _EXPIRES.read(request), _SIGNATURE.read(request)
    if not context.media_links.is_valid(name, whom, expires, signature, time()):
        raise no_file()
    row = await _await_file(request, parse_id(PREFIX, name), whom)
    if row["state"] == "pending":
        seconds = retry_after(row["error"], row["next_at"], datetime.now(UTC))
        raise NotYet("this file is being fetched from the provider: ask again", retry_after=seconds)
    if row["state"] != "kept":
        raise unavailable(row)
    return await _give(request, row)


async def _await_file(request: web.Request, media_id: UUID, whom: str) -> Record:
    """The row of a file, once it is there, or after a moment. Raises `NotFound`."""
    until = monotonic() + _MOMENT
    while True:
        row = await _find(request, media_id, whom)
        is_on_its_way = row["state"] == "pending" and row["error"] is None
        if not is_on_its_way or monotonic() > until or request.app[CONTEXT].is_stopping.is_set():
            return row
        await asyncio.sleep(_PAUSE)


async def _find(request: web.Request, media_id: UUID, whom: str) -> Record:
    """A link without a name was made for a provider, of what a service uploaded. Raises `NotFound`."""
    async with request.app[CONTEXT].database.reading() as conn:
        if whom in {"", OPERATOR}:
            return await find_file(conn, media_id, None)
        return await find_file(conn, media_id, parse_id("svc", whom))


async def _give(request: web.Request, row: Record) -> web.StreamResponse:
    """The bytes, or the part of them that was asked for."""
    files, size = request.app[CONTEXT].files, row["size"]
    try:
        if not await files.blobs.exists(row["sha256"]):
            log.error("media.missing", media=public_id(PREFIX, row["id"]))
            raise unavailable(row)
    except OSError as error:
        raise Unavailable("the hub cannot reach its files just now") from error
    headers = _headers(row["mime_type"], row["filename"]) | {"Accept-Ranges": "bytes"}
    wanted = _range(request, size)
    if wanted is None:
        return web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    is_part = wanted != (0, size)
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    if is_part:
        response.headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[1] - 1}/{size}"
    response.content_length = wanted[1] - wanted[0]
    await response.prepare(request)
    if request.method != "HEAD":
        async with aclosing(files.blobs.read(row["sha256"], *wanted)) as pieces:
            async for piece in pieces:
                await response.write(piece)
    await response.write_eof()
    return response


def _range(request: web.Request, size: int) -> tuple[int, int] | None:
    """Which bytes are asked for, from and up to; all of them where the range is none we know (RFC 9110). None where
    there are no such bytes.
    """
    try:
        wanted = request.http_range
    except ValueError:
        return 0, size
    if wanted.start is None and wanted.stop is None:
        return 0, size
    start, stop, _ = wanted.indices(size)
    return (start, stop) if start < stop else None


# What is known of a file ------------------------------------------------------------------------------------------


@operation(path=(_FILE,), answers={200: KnownFile}, codes=_GONE)
async def get_file(request: web.Request, caller: Caller) -> web.Response:
    """What is known of a file that the caller may have."""
    return await _show(request, caller.service_id)


@operation(path=(_FILE,), answers={200: KnownFile}, codes=_GONE)
async def get_any_file(request: web.Request) -> web.Response:
    """The same of any file, for the operator."""
    return await _show(request, None)


async def _show(request: web.Request, viewer: UUID | None) -> web.Response:
    async with request.app[CONTEXT].database.reading() as conn:
        row = await find_file(conn, _FILE.read(request), viewer)
    return answer(file_view(row, request.app[CONTEXT].media_links, viewer, time()))


@operation(path=(_FILE,), answers={200: KnownFile, 202: KnownFile}, codes=_GONE)
async def post_refetch(request: web.Request, caller: Caller) -> web.Response:
    """Fetch a customer's file again that could not be had."""
    return await _refetch(request, caller.service_id)


@operation(path=(_FILE,), answers={200: KnownFile, 202: KnownFile}, codes=_GONE)
async def post_any_refetch(request: web.Request) -> web.Response:
    """The same of any file, for the operator."""
    return await _refetch(request, None)


async def _refetch(request: web.Request, viewer: UUID | None) -> web.Response:
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        row, is_due = await refetch(conn, _FILE.read(request), viewer)
    if is_due:
        context.wake_vault()
    return answer(file_view(row, context.media_links, viewer, time()), status=202 if is_due else 200)


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
