"""Events for services that come for them: page by page, or as a live stream of server-sent events (rules G4, A11)."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import orjson
import structlog
from aiohttp import web
from prometheus_client import Gauge

from hub.actions.feed import Begin, Page, Place, Reader, read_page
from hub.actions.presence import presence_event
from hub.actions.roster import Caller
from hub.domain.errors import Invalid, Refusal, Unauthorized, Unavailable
from hub.domain.ids import event_id, public_id
from hub.domain.positions import SHARDS, decode
from hub.http.answers.events import Feed
from hub.http.auth import bearer, service
from hub.http.context import CONTEXT, Context
from hub.http.operations import Answer, operation
from hub.http.params import LIMIT, header, time, word
from hub.http.problems import answer
from hub.store import event_log, presence, services, subscriptions
from hub.store.pool import Connection, Record, TryAgain
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
PRESENCES: Final = 1000
"""Presences kept for a stream that is slow; older ones are over soon anyway."""
_LOOKED_AT: Final = 1000
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AFTER: Final = word("after", "go on where a page ended: its `next`")
_SINCE: Final = time("since", "begin anew with what was logged at this time or later")
_NUMBER: Final = word("number", "of the connection to this number alone")
_LAST: Final = header("Last-Event-ID", "go on behind this: the `id` of the last event that came", str)
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


@operation(
    query=(_AFTER, _SINCE, _NUMBER, LIMIT),
    answers={200: Feed},
    codes=("invalid_cursor", "not_connected", "not_found", "events_expired"),
)
async def list_events(request: web.Request, caller: Caller) -> web.Response:
    """The next events after a cursor, and the cursor to go on with, also where there are none."""
    reader, place, limit = _reader(request, caller), _place(request, Begin.START), LIMIT.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        page = await read_page(conn, reader, place, limit, request.app[CONTEXT].media_links)
    view = {
        "items": [orjson.Fragment(item.body) for item in page.items],
        "next": page.positions.encode(),
        "has_more": page.has_more,
    }
    return answer(view if page.expired is None else view | {"expired": _expired(page.expired)})


def _expired(ids: tuple[int, int]) -> dict[str, str]:
    return {"after_event_id": event_id(ids[0]), "upto_event_id": event_id(ids[1])}


def _reader(request: web.Request, caller: Caller) -> Reader:
    number = _NUMBER.find(request)
    # A plus sign that was not escaped arrives as a space.
    return Reader(caller.service_id, None if number is None else "+" + number.lstrip(" +"))


def _place(request: web.Request, default: Begin) -> Place:
    after, since = _AFTER.find(request), _SINCE.find(request)
    if after is not None and since is not None:
        raise Invalid("after goes on where a page ended, since begins anew: not both")
    if after is not None:
        return decode(after)
    return default if since is None else max(since, _FIRST)


# Live ---------------------------------------------------------------------------------------------------------------


@operation(
    query=(_AFTER, _SINCE, _NUMBER),
    headers=(_LAST,),
    answers={200: Answer(text="Server-sent events, as long as both sides like", media_type="text/event-stream")},
    codes=("invalid_cursor", "not_connected", "not_found", "events_expired", "too_many_streams"),
)
async def stream(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Server-sent events, from `Last-Event-ID`, else `after` or `since`, else from now on."""
    resumed = _LAST.find(request)
    place = decode(resumed) if resumed else _place(request, Begin.HEAD)
    reader = _reader(request, caller)
    async with request.app[STREAMS].open(request, caller.service_id) as follower:
        page = await _read(request, reader, place, follower)  # before the answer begins: a refusal can still be told
        response = web.StreamResponse(headers=_HEADERS)
        reason = await _follow(request, response, reader, page, follower)
    log.info("stream.ended", service=public_id("svc", caller.service_id), reason=reason)
    return response


async def _follow(
    request: web.Request, response: web.StreamResponse, reader: Reader, page: Page, follower: "Follower"
) -> str:
    """Write pages as events come, until the reader is gone, may read no more, or the hub stops; gives which."""
    context, now = request.app[CONTEXT], asyncio.get_running_loop().time
    try:
        await response.prepare(request)
        await _write(response, f"retry: {_RETRY_MS}\n".encode() + _frames(page) + _presences(reader, follower))
        due = now() + HEARTBEAT
        while not context.is_stopping.is_set() and not _is_gone(request):
            page = replace(page, items=(), expired=None)  # written: nothing of it is kept while waiting
            if not page.has_more:
                await _wait(follower.wake, due)
            follower.wake.clear()
            if follower.is_behind or page.has_more or now() >= due:
                page = await _read_again(request, reader, page, follower)
            if page.items or page.expired or now() >= due:
                await _write(response, (b"" if page.items else b": still here\n") + _frames(page))
                due = now() + HEARTBEAT
            if frames := _presences(reader, follower):
                await _write(response, frames)
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


async def _read_again(request: web.Request, reader: Reader, page: Page, follower: "Follower") -> Page:
    """The page after this one, which was written; the same while the database is away."""
    try:
        return await _read(request, reader, page.positions, follower)
    except (Unavailable, TryAgain):
        await asyncio.sleep(PAUSE)
        follower.is_behind = True
        follower.wake.set()
        return page


async def _read(request: web.Request, reader: Reader, place: Place, follower: "Follower") -> Page:
    """A page, if the key still holds. Raises as `read_page`, and `Unauthorized`."""
    follower.is_behind = False
    async with request.app[STREAMS].turn, request.app[CONTEXT].database.transaction() as conn:
        page = await read_page(conn, reader, place, PAGE, request.app[CONTEXT].media_links)
        key = await services.find_by_key(conn, hash_api_key(bearer(request)))
        viewers = await subscriptions.list_viewers(conn, reader.service_id, reader.e164)
        channels = frozenset(row["channel_id"] for row in viewers)
        new = channels - follower.channels
        there = await presence.list_live(conn, new) if new else []
    if key is None or "read" not in key["scopes"]:
        raise Unauthorized("this API key is not valid any more")
    follower.channels = channels
    follower.begin(there)
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


def _presences(reader: Reader, follower: "Follower") -> bytes:
    """Who came, typed or went, as it goes over the wire: without an `id`, so that the cursor stays where it is."""
    at = datetime.now(UTC)
    events = [presence_event(row, reader.service_id, at) for row in follower.take()]
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event, option=orjson.OPT_UTC_Z))
        for event in events
    )


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


@dataclass(eq=False, slots=True)
class Follower:
    """An open stream, as the watcher sees it: what wakes it, and what there is for it."""

    request: web.Request
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_behind: bool = True
    """Whether there are events it has not looked for, or another roster."""
    channels: frozenset[UUID] = frozenset()
    """Those it may see, as of its last look."""
    _presences: deque[Record] = field(default_factory=lambda: deque(maxlen=PRESENCES))
    _last: int = 0
    """The last change that was written."""

    def begin(self, there: Iterable[Record]) -> None:
        """Show who is there already, on channels it did not see before."""
        self._presences.extend(there)

    def hear(self, rows: Iterable[Record]) -> None:
        """Keep what changed until it is written."""
        self._presences.extend(row for row in rows if row["change"] > self._last)

    def take(self) -> list[Record]:
        """What is to be written: of what it may see, the latest of each agent at each conversation."""
        latest: dict[tuple[UUID, UUID, str], Record] = {}
        for row in sorted(self._presences, key=lambda row: row["change"]):
            if row["channel_id"] in self.channels:
                latest[row["conversation_id"], row["service_id"], row["agent_id"]] = row
        self._presences.clear()
        rows = sorted(latest.values(), key=lambda row: row["change"])
        self._last = max(self._last, rows[-1]["change"] if rows else 0)
        return rows


class Streams:
    """The live streams of a process, and one watcher that wakes them: as long as there is one, and for all of them."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(READERS)
        self._open: set[Follower] = set()
        self._count: Counter[UUID] = Counter()
        self._watcher: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self, request: web.Request, service_id: UUID) -> AsyncIterator[Follower]:
        """A place for one more. Raises `Refusal` where the service has too many."""
        if self._count[service_id] >= MOST_STREAMS:
            refusal = Refusal(f"a service may have {MOST_STREAMS} live streams open", code="too_many_streams")
            refusal.status = 429
            raise refusal
        follower = Follower(request)
        self._open.add(follower)
        self._count[service_id] += 1
        OPEN.inc()
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(request.app[CONTEXT]))
        try:
            yield follower
        finally:
            OPEN.dec()
            self._count[service_id] -= 1
            self._open.remove(follower)
            if not self._open:
                watcher, self._watcher = self._watcher, None
                watcher.cancel()
                await asyncio.wait([watcher])

    async def _watch(self, context: Context) -> None:
        """Wake every stream when there is something new, those whose readers went away, and all when the hub stops."""
        tail = Tail()
        while not context.is_stopping.is_set():
            news, pause = News(has_moved=False), TICK
            try:
                async with context.database.reading() as conn:
                    news = await tail.look(conn)
            except Exception as error:  # whatever it is: streams must not stand still for it
                log.warning("streams.blind", exc_info=not isinstance(error, Unavailable | TryAgain))
                tail, pause = Tail(), PAUSE
            self._tell(news)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await context.is_stopping.wait()
        for follower in self._open:
            follower.wake.set()

    def _tell(self, news: "News") -> None:
        for follower in self._open:
            follower.is_behind |= news.has_moved
            follower.hear(news.presences)
            if news.has_moved or news.presences or _is_gone(follower.request):
                follower.wake.set()


@dataclass(frozen=True, slots=True)
class News:
    """What happened since the last look: whether to the log or the roster, and to presences."""

    has_moved: bool
    presences: Sequence[Record] = ()


class Tail:
    """The end of the log, the roster and presences, as they were when looked at last."""

    def __init__(self) -> None:
        self._at: list[int] | None = None
        self._version = -1
        self._change: int | None = None

    async def look(self, conn: Connection) -> News:
        """What was committed since the last look; at the first, that there may be anything. Ids do not tell that, they
        are drawn earlier: a low one may appear after a higher one of another shard.
        """
        if self._at is None:
            heads = await event_log.find_heads(conn)
            self._at = [heads[shard] for shard in range(SHARDS)]
        events = await event_log.list_unread(conn, self._at, (), _LOOKED_AT)
        for event in events:
            self._at[event.shard] = event.id
        version, drawn = await presence.find_pulse(conn)
        rows: list[Record] = []
        if self._change is None or drawn > self._change:
            rows, self._change = await presence.list_changes(conn, self._change or 0, drawn, PRESENCES)
            # Asked again: whoever left before these came must not see them.
            version, _ = await presence.find_pulse(conn)
        before, self._version = self._version, version
        return News(bool(events) or version != before, rows)


STREAMS: Final = web.AppKey("streams", Streams)
