"""`GET /console/live`: server-sent hints that a page is out of date. Never content: whoever hears one asks again."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog
from aiohttp import web

from hub.domain.errors import Refusal, Unavailable
from hub.http.console.hints import FOR_ALL, Hint, Lookout, seen_by
from hub.http.console.rendering import HEADERS
from hub.http.console.session import Session, find_session, holds
from hub.http.context import CONTEXT, Context
from hub.http.problems import problem
from hub.store import console_sessions, pulse
from hub.store.pool import TryAgain

log = structlog.get_logger()

TICK: Final = 0.25
"""Seconds between looks at the log, one for all viewers of a process."""
AROUND: Final = 1.0
"""Seconds between looks at deliveries, quarantine and roster, and at whether sessions still hold."""
PAUSE: Final = 1.0
HEARTBEAT = 15.0
"""Seconds of silence after which a stream says that it lives."""
STALLED: Final = 30.0
"""Seconds a reader may take nothing."""
MOST_PER_SESSION: Final = 6
"""Streams of one session at one process: as many tabs that are looked at."""
MOST_PER_VIEWER: Final = 30
"""The same of all sessions with keys of one service, or of the operator."""
CALM: Final = {"traffic": 5.0, "deliveries": 2.0, "conversations": 2.0, "messages": 2.0, "events": 2.0}
"""Seconds between two hints of topics that something always happens to."""
_MOST_TOPICS: Final = 400
_RETRY_MS: Final = 3000


@dataclass(eq=False, slots=True)
class Listener:
    """One open stream: whose, what it asked for, and what there is to tell."""

    request: web.Request
    session: Session
    wanted: frozenset[str]
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    topics: set[str] = field(default_factory=set)
    is_ended: bool = False
    _late: set[str] = field(default_factory=set)
    _calm_until: dict[str, float] = field(default_factory=dict)

    @property
    def service_id(self) -> UUID | None:
        """Whose eyes these are, None for the operator's."""
        return self.session.viewer.service_id

    def hear(self, topics: set[str], now: float) -> None:
        """Keep what is of interest until it is written."""
        topics = (topics & self.wanted if self.wanted else topics) | self._late
        self._late = {topic for topic in topics if now < self._calm_until.get(topic, 0.0)}
        topics -= self._late
        self._calm_until |= {topic: now + CALM[topic] for topic in topics if topic in CALM}
        if topics:
            self.topics |= topics
            if len(self.topics) > _MOST_TOPICS:
                self.topics = {"*"}
            self.wake.set()

    def take(self) -> set[str]:
        """What is to be written now."""
        topics, self.topics = self.topics, set()
        return topics


def add_routes(app: web.Application) -> None:
    """Put the stream into the application."""
    app[LISTENERS] = Listeners()
    app.router.add_get("/console/live", live, allow_head=False)


async def live(request: web.Request) -> web.StreamResponse:
    """Hints as they come; the first is that everything may be out of date, since a page is older than its stream."""
    try:
        session = await find_session(request)
    except Refusal as refusal:
        return problem(refusal)
    if session is None or not session.viewer.may("read"):
        return web.Response(status=401 if session is None else 403, headers=HEADERS)
    wanted = frozenset(filter(None, request.query.get("topics", "")[:4000].split(",")))
    listener = Listener(request, session, wanted)
    listener.topics.add("*")
    listener.wake.set()
    try:
        async with request.app[LISTENERS].open(request.app[CONTEXT], listener):
            return await _follow(request, listener)
    except Refusal as refusal:
        return problem(refusal)


async def _follow(request: web.Request, listener: Listener) -> web.StreamResponse:
    response = web.StreamResponse(
        headers=HEADERS | {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
    )
    context, sent = request.app[CONTEXT], 0
    try:
        await response.prepare(request)
        await _write(response, f"retry: {_RETRY_MS}\nid: {sent}\n\n")
        while not (context.is_stopping.is_set() or listener.is_ended or _is_gone(request)):
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await listener.wake.wait()
            listener.wake.clear()
            topics = listener.take()
            sent += bool(topics)
            text = f"event: hint\nid: {sent}\ndata: {' '.join(sorted(topics))}\n\n" if topics else ": still here\n\n"
            await _write(response, text)
        if listener.is_ended:
            await _write(response, "event: end\ndata: session\n\n")
    except ConnectionError:
        pass
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(STALLED):
        await response.write(text.encode())


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


class Listeners:
    """The open streams of a process, and one watcher for all of them, as long as there is one."""

    def __init__(self) -> None:
        self._open: set[Listener] = set()
        self._by_session: Counter[bytes] = Counter()
        self._by_viewer: Counter[UUID | None] = Counter()
        self._watcher: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self, context: Context, listener: Listener) -> AsyncIterator[None]:
        """A place for one more. Raises `Refusal` where the session, or its key's owner, has too many."""
        session, viewer = listener.session.token_hash, listener.service_id
        if self._by_session[session] >= MOST_PER_SESSION or self._by_viewer[viewer] >= MOST_PER_VIEWER:
            refusal = Refusal(
                f"One session may follow {MOST_PER_SESSION} pages at once: close some.", code="too_many_streams"
            )
            refusal.status = 429
            raise refusal
        self._open.add(listener)
        self._by_session[session] += 1
        self._by_viewer[viewer] += 1
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(context))
        try:
            yield
        finally:
            self._open.remove(listener)
            self._by_session[session] -= 1
            self._by_viewer[viewer] -= 1
            self._by_session += Counter()  # those at zero are forgotten
            if not self._open and self._watcher:
                watcher, self._watcher = self._watcher, None
                watcher.cancel()
                await asyncio.wait([watcher])

    async def _watch(self, context: Context) -> None:
        """Look for all of them, until the hub stops. Whatever goes wrong, they must not stand still for it."""
        lookout, around, pause = Lookout(), 0.0, TICK
        while not context.is_stopping.is_set():
            try:
                async with context.database.reading() as conn:
                    hints = await lookout.look(conn)
                    reaches = await pulse.list_reaches(conn, self._services()) if hints else {}
                    self._tell(hints, reaches)
                    if time.monotonic() >= around:
                        self._tell_around(*(await lookout.look_around(conn)))
                        asked = self._sessions()
                        self._end_over(context, asked, await console_sessions.list_live(conn, asked))
                        around = time.monotonic() + AROUND
                pause = TICK
            except Exception as error:
                log.warning("console.blind", exc_info=not isinstance(error, Unavailable | TryAgain))
                pause = PAUSE
            self._wake_gone()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await context.is_stopping.wait()
        for listener in self._open:
            listener.wake.set()

    def _wake_gone(self) -> None:
        """Whoever went on to another page gives its place back at once."""
        for listener in self._open:
            if _is_gone(listener.request):
                listener.wake.set()

    def _services(self) -> set[UUID]:
        return {listener.service_id for listener in self._open if listener.service_id}

    def _sessions(self) -> list[bytes]:
        return list({listener.session.token_hash for listener in self._open})

    def _tell(self, hints: list[Hint], reaches: dict[UUID, set[UUID]]) -> None:
        now = time.monotonic()
        told: dict[UUID | None, set[str]] = {}
        for listener in self._open if hints else ():
            viewer = listener.service_id
            if viewer not in told:
                told[viewer] = seen_by(hints, viewer, reaches.get(viewer, set()) if viewer else ())
            listener.hear(told[viewer], now)

    def _tell_around(self, topics: set[str], by_service: dict[UUID, set[str]]) -> None:
        now = time.monotonic()
        for listener in self._open:
            viewer = listener.service_id
            listener.hear(topics if viewer is None else (topics & FOR_ALL) | by_service.get(viewer, set()), now)

    def _end_over(self, context: Context, asked: Collection[bytes], still: Mapping[bytes, bytes | None]) -> None:
        """End the streams whose sessions ended, ran out, or lost their key; whoever came while these were read was not
        asked about.
        """
        for listener in self._open:
            token_hash = listener.session.token_hash
            if token_hash not in asked:
                continue
            if token_hash not in still or not holds(context, token_hash, still[token_hash]):
                listener.is_ended = True
                listener.wake.set()


LISTENERS: Final = web.AppKey("console_listeners", Listeners)
