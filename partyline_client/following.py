"""Follow the feed or the live stream for good: over broken lines, restarts of the hub, and one's own.

    place = store.position()
    async for event in follow_stream(hub, after=place.after, save=place.save, seen=store.seen):
        await work_on(event)

An event counts as done when the loop asks for the next one; a loop that is left, or whose body raises, gets it again.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypedDict, TypeVar, Unpack

from partyline_client import calls
from partyline_client.calls import Time
from partyline_client.errors import HubError, InProgress, Malformed, Problem, Unreachable, Unreadable
from partyline_client.events import Event, Expired, Presence
from partyline_client.inbox import LOG, OnGap, Watch, tell_gap, told
from partyline_client.request import Page, Request
from partyline_client.seen import Memory, Seen
from partyline_client.stream import EventStream

T = TypeVar("T")
EVERY: Final = 1.0
"""Seconds until the feed is asked again when it had nothing more."""
PAUSE: Final = 2.0
"""Seconds until the stream is opened again, unless the hub says otherwise."""
LONGEST: Final = 60.0
"""Seconds between attempts while the hub is away for long."""
_PAGE: Final = 200


class Line(Protocol):
    """What it needs of a hub; an `AsyncHub` is one."""

    async def call(self, request: Request[T], /) -> T:
        """Send a request: what its answer means."""
        ...

    def chunks(self, request: Request[Any], /) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of an answer without end."""
        ...


class Following(TypedDict, total=False):
    """`after`: the position that `save` was given last; `since`: a time to begin with where there is none. `number`: of
    this number alone. `save` is told where to go on, after the work; `seen` drops repeats, `sequences` sees gaps.
    `on_gap`, `on_expired`, `on_presence` are told of what is no event; they may be asynchronous.
    `pause`: seconds before trying again, the hub's own unless given.
    """

    after: str | None
    since: Time | None
    number: str | None
    save: Callable[[str], object]
    seen: Memory
    sequences: Watch
    on_gap: OnGap
    on_expired: Callable[[Expired], object]
    on_presence: Callable[[Presence], object]
    pause: float


def follow_feed(hub: Line, *, every: float = EVERY, **options: Unpack[Following]) -> AsyncGenerator[Event, None]:
    """The service's events, page by page, from where it connected or `after` a position, and on without end.

    Raises the hub's refusals, such as 409 `not_connected`; what passes by itself is waited for.
    """
    follower = _Follower(hub, options)
    return follower.work(follower.feed(every))


def follow_stream(hub: Line, **options: Unpack[Following]) -> AsyncGenerator[Event, None]:
    """The service's events as they happen, from now or `after` a position, and on without end.

    When the line breaks, it goes on from where the work is; while there is no stream to be had, it reads the feed.
    """
    follower = _Follower(hub, options)
    return follower.work(follower.stream())


@dataclass(frozen=True, slots=True)
class _Reached:
    """All before this position was given out."""

    position: str


_Item = Event | Expired | Presence | _Reached


@dataclass
class _Follower:
    hub: Line
    options: Following
    position: str | None = None
    failures: int = 0
    has_worked: bool = False
    retry: float = PAUSE
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.position = self.options.get("after") or None
        self.seen = self.options.get("seen") or Seen()

    # What becomes of events ------------------------------------------------------------------------------------------

    async def work(self, source: AsyncGenerator[_Item, None]) -> AsyncGenerator[Event, None]:
        """Give out what is new, and save the position behind what was worked on."""
        async with aclosing(source):
            async for item in source:
                if isinstance(item, Event):
                    with ExitStack() as block:
                        if await self._begin(block, item):
                            await tell_gap(item, self.options.get("sequences"), self.options.get("on_gap"))
                            yield item
                else:
                    await self._tell(item)

    async def _begin(self, block: ExitStack, event: Event) -> bool:
        """Whether it is new. What somebody else works on, or died of, is waited for."""
        while True:
            try:
                return block.enter_context(self.seen.handling(event.id))
            except InProgress:
                await asyncio.sleep(EVERY)

    async def _tell(self, item: Expired | Presence | _Reached) -> None:
        match item:
            case _Reached():
                if save := self.options.get("save"):
                    await told(save, item.position)
            case Expired():
                if on_expired := self.options.get("on_expired"):
                    await told(on_expired, item)
                else:
                    LOG.warning("events after %s up to %s had expired", item.after_event_id, item.upto_event_id)
            case Presence():
                if on_presence := self.options.get("on_presence"):
                    await told(on_presence, item)

    # The feed --------------------------------------------------------------------------------------------------------

    async def feed(self, every: float) -> AsyncGenerator[_Item, None]:
        """Page after page."""
        while True:
            try:
                page = await self._page(self.options.get("since"))
            except HubError as error:
                await self._wait(error)
                continue
            for item in self._items(page):
                yield item
            if not page.has_more:
                await asyncio.sleep(every)

    async def _page(self, since: Time | None) -> Page:
        number = self.options.get("number")
        since = since if self.position is None else None
        page = await self.hub.call(calls.events(self.position, since=since, number=number, limit=_PAGE))
        self._it_works()
        return page

    def _items(self, page: Page) -> list[_Item]:
        items: list[_Item] = [page.expired] if page.expired else []
        return [*items, *page.events, *self._reach(page.next)]

    def _reach(self, position: str) -> list[_Item]:
        """The position, if it is another one."""
        if not position or position == self.position:
            return []
        self.position = position
        return [_Reached(position)]

    # The stream ------------------------------------------------------------------------------------------------------

    async def stream(self) -> AsyncGenerator[_Item, None]:
        """One connection after the other; the feed where one brings nothing."""
        while True:
            reader = EventStream(self.position or "")
            error: HubError | None = None
            is_open = False
            try:
                async with self.hub.chunks(self._opening()) as chunks:
                    async for chunk in chunks:
                        events = [one.read() for one in reader.feed(chunk)]
                        is_open = is_open or self._it_works()
                        for item in [*events, *self._reach(reader.last_event_id)]:
                            yield item
            except HubError as problem:
                error = problem
            except Malformed as problem:
                error = Unreadable(f"the stream holds something else than events: {problem}")
            if not is_open:
                self._check(error)
                async with aclosing(self._rest()) as rest:
                    async for item in rest:
                        yield item
            self.retry = self.retry if reader.retry is None else reader.retry
            await self._wait(error)

    def _opening(self) -> Request[None]:
        since = self.options.get("since") if self.position is None else None
        return calls.stream(self.position, since=since, number=self.options.get("number"))

    async def _rest(self) -> AsyncGenerator[_Item, None]:
        """What the feed has by now; from the beginning of this following, where the stream said no position yet."""
        try:
            while True:
                page = await self._page(self.options.get("since") or self.begun)
                for item in self._items(page):
                    yield item
                if not page.has_more:
                    return
        except HubError as error:
            self._check(error)

    # When it fails ---------------------------------------------------------------------------------------------------

    def _it_works(self) -> bool:
        self.has_worked, self.failures = True, 0
        return True

    def _check(self, error: HubError | None) -> None:
        """Raise what will not pass by itself."""
        match error:
            case None | Unreachable():
                return
            case Problem() if error.is_temporary or (self.has_worked and error.code == "unknown"):
                return
            case Unreadable() if self.has_worked:
                return
        raise error

    async def _wait(self, error: HubError | None) -> None:
        """Wait before the next attempt: ever longer while it fails, and never shorter than the hub says."""
        self._check(error)
        pause = self.options.get("pause", self.retry)
        asked = (error.retry_after or 0.0) if isinstance(error, Problem) else 0.0
        longer = min(pause * 2**self.failures, max(pause, LONGEST))
        self.failures = min(self.failures + 1, 10)
        if error is not None:
            LOG.info("the hub: %s; asking again in about %.0f s", error, max(asked, longer))
        await asyncio.sleep(max(asked, longer) * (1 + random.random() / 4))  # noqa: S311  no secret
