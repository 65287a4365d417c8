"""Events for services that come for them: page by page, or as a live stream of server-sent events (rules G4, A11)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import orjson
import structlog
from aiohttp import web
from prometheus_client import Gauge

from hub.actions.feed import Begin, Page, Place, Reader, read_page
from hub.actions.roster import Caller
from hub.domain.errors import Invalid, Refusal, Unauthorized, Unavailable
from hub.domain.ids import event_id, public_id
from hub.domain.positions import SHARDS, decode
from hub.http.auth import bearer, service
from hub.http.context import CONTEXT, Context
from hub.http.problems import answer
from hub.http.schemas import limit_of
from hub.store import event_log, services
from hub.store.pool import Connection, TryAgain
from hub.store.sealing import hash_api_key

log = structlog.get_logger()

MOST_STREAMS: Final = 20
"""Live streams a service may have open at one process."""
HEARTBEAT = 15.0
"""Seconds of silence after which a stream says that it lives, and asks again whether it may."""
STALLED: Final = 60.0
"""Seconds a reader may take nothing; it comes back to where it was."""
PAGE: Final = 100
"""Events written at a time: what a slow reader may leave in memory."""
TICK: Final = 0.05
"""Seconds between looks at the log, for all streams together."""
READERS: Final = 4
"""Streams that read at the same time: connections are left for everybody else."""
PAUSE: Final = 1.0
"""Seconds between looks while the database is away."""
_LOOKED_AT: Final = 1000
_RETRY_MS: Final = 2000
_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}

OPEN = Gauge("partyline_streams_open", "Live streams that are open", multiprocess_mode="livesum")


def add_routes(app: web.Application) -> None:
    """Put the feed and the stream into the application."""
    app[STREAMS] = Streams()
    app.router.add_get("/v1/events", service(list_events, "read"))
    app.router.add_get("/v1/events/stream", service(stream, "read"), allow_head=False)


# Page by page -------------------------------------------------------------------------------------------------------


async def list_events(request: web.Request, caller: Caller) -> web.Response:
    """The next events after a cursor, and the cursor to go on with, also where there are none."""
    reader, place, limit = _reader(request, caller), _place(request, Begin.START), limit_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        page = await read_page(conn, reader, place, limit)
    view = {
        "items": [orjson.Fragment(item.body) for item in page.items],
        "next": page.positions.encode(),
        "has_more": page.has_more,
    }
    return answer(view if page.expired is None else view | {"expired": _expired(page.expired)})


def _expired(ids: tuple[int, int]) -> dict[str, str]:
    return {"after_event_id": event_id(ids[0]), "upto_event_id": event_id(ids[1])}


def _reader(request: web.Request, caller: Caller) -> Reader:
    number = request.query.get("number")
    # A plus sign that was not escaped arrives as a space.
    return Reader(caller.service_id, None if number is None else "+" + number.lstrip(" +"))


def _place(request: web.Request, default: Begin) -> Place:
    after, since = request.query.get("after"), request.query.get("since")
    if after is not None and since is not None:
        raise Invalid("after goes on where a page ended, since begins anew: not both")
    if after is not None:
        return decode(after)
    return default if since is None else _time(since)


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Invalid("since must be a time such as 2026-01-31T12:00:00Z") from None
    return max(at, datetime(1970, 1, 1, tzinfo=UTC))


# Live ---------------------------------------------------------------------------------------------------------------


async def stream(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Server-sent events, from `Last-Event-ID`, else `after` or `since`, else from now on."""
    resumed = request.headers.get("Last-Event-ID")
    place = decode(resumed) if resumed else _place(request, Begin.HEAD)
    reader = _reader(request, caller)
    async with request.app[STREAMS].open(request, caller.service_id) as wake:
        page = await _read(request, reader, place)  # before the answer begins: a refusal can still be told
        response = web.StreamResponse(headers=_HEADERS)
        reason = await _follow(request, response, reader, page, wake)
    log.info("stream.ended", service=public_id("svc", caller.service_id), reason=reason)
    return response


async def _follow(
    request: web.Request, response: web.StreamResponse, reader: Reader, page: Page, wake: asyncio.Event
) -> str:
    """Write pages as events come, until the reader is gone, may read no more, or the hub stops; gives which."""
    context, now = request.app[CONTEXT], asyncio.get_running_loop().time
    try:
        await response.prepare(request)
        await _write(response, f"retry: {_RETRY_MS}\n".encode() + _frames(page))
        due = now() + HEARTBEAT
        while not context.is_stopping.is_set() and not _is_gone(request):
            page = replace(page, items=(), expired=None)  # written: nothing of it is kept while waiting
            if not page.has_more:
                await _wait(wake, due)
            wake.clear()
            page = await _read_again(request, reader, page, wake)
            if page.items or page.expired or now() >= due:
                await _write(response, (b"" if page.items else b": still here\n") + _frames(page))
                due = now() + HEARTBEAT
    except Refusal as refusal:
        return refusal.code
    except ConnectionError:
        return "gone"
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # an orderly end would wait for the reader, too
        return "stalled"
    except Exception:  # the answer has begun: no other can be given
        log.exception("stream.failed")
        return "failed"
    return "stopping" if context.is_stopping.is_set() else "gone"


async def _wait(wake: asyncio.Event, until: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            await wake.wait()


async def _read_again(request: web.Request, reader: Reader, page: Page, wake: asyncio.Event) -> Page:
    """The page after this one, which was written; the same while the database is away."""
    try:
        return await _read(request, reader, page.positions)
    except (Unavailable, TryAgain):
        await asyncio.sleep(PAUSE)
        wake.set()
        return page


async def _read(request: web.Request, reader: Reader, place: Place) -> Page:
    """A page, if the key still holds. Raises as `read_page`, and `Unauthorized`."""
    async with request.app[STREAMS].turn, request.app[CONTEXT].database.transaction() as conn:
        page = await read_page(conn, reader, place, PAGE)
        key = await services.find_by_key(conn, hash_api_key(bearer(request)))
    if key is None or "read" not in key["scopes"]:
        raise Unauthorized("this API key is not valid any more")
    return page


async def _write(response: web.StreamResponse, frames: bytes) -> None:
    """Write, and wait until the reader has taken most of it. Raises TimeoutError where it takes nothing."""
    async with asyncio.timeout(STALLED):
        await response.write(frames)


def _frames(page: Page) -> bytes:
    """The page as it goes over the wire; the last frame carries the cursor behind all of it."""
    frames = [b"event: %b\ndata: %b\n" % (item.type.encode(), item.body) for item in page.items]
    if page.expired:
        frames.insert(0, b"event: expired\ndata: %b\n" % orjson.dumps(_expired(page.expired)))
    cursor = f"id: {page.positions.encode()}\n".encode()
    if page.items:
        frames[-1] = cursor + frames[-1]
    else:
        frames.append(cursor)
    return b"\n".join([*frames, b""])


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


class Streams:
    """The live streams of a process, and one watcher that wakes them: as long as there is one, and for all of them."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(READERS)
        self._open: dict[asyncio.Event, web.Request] = {}
        self._count: Counter[UUID] = Counter()
        self._watcher: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self, request: web.Request, service_id: UUID) -> AsyncIterator[asyncio.Event]:
        """A place for one more; gives what wakes it. Raises `Refusal` where the service has too many."""
        if self._count[service_id] >= MOST_STREAMS:
            refusal = Refusal(f"a service may have {MOST_STREAMS} live streams open", code="too_many_streams")
            refusal.status = 429
            raise refusal
        wake = asyncio.Event()
        self._open[wake] = request
        self._count[service_id] += 1
        OPEN.inc()
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(request.app[CONTEXT]))
        try:
            yield wake
        finally:
            OPEN.dec()
            self._count[service_id] -= 1
            del self._open[wake]
            if not self._open:
                watcher, self._watcher = self._watcher, None
                watcher.cancel()
                await asyncio.wait([watcher])

    async def _watch(self, context: Context) -> None:
        """Wake every stream when there is something new, those whose readers went away, and all when the hub stops."""
        tail = Tail()
        while not context.is_stopping.is_set():
            has_moved, pause = False, TICK
            try:
                async with context.database.reading() as conn:
                    has_moved = await tail.has_moved(conn)
            except Exception as error:  # whatever it is: streams must not stand still for it
                log.warning("streams.blind", exc_info=not isinstance(error, Unavailable | TryAgain))
                tail, pause = Tail(), PAUSE
            for wake, request in self._open.items():
                if has_moved or _is_gone(request):
                    wake.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await context.is_stopping.wait()
        for wake in self._open:
            wake.set()


class Tail:
    """The end of the log and the roster, as they were when looked at last."""

    def __init__(self) -> None:
        self._at: list[int] | None = None
        self._version = -1

    async def has_moved(self, conn: Connection) -> bool:
        """Whether something was committed since the last look; yes at the first. Ids do not tell that, they are drawn
        earlier: a low one may appear after a higher one of another shard.
        """
        if self._at is None:
            heads = await event_log.find_heads(conn)
            self._at = [heads[shard] for shard in range(SHARDS)]
        events = await event_log.list_unread(conn, self._at, (), _LOOKED_AT)
        for event in events:
            self._at[event.shard] = event.id
        before = self._version
        _, self._version = await event_log.find_pulse(conn)
        return bool(events) or self._version != before


STREAMS: Final = web.AppKey("streams", Streams)
