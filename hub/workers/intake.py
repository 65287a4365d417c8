"""The micro-batcher: webhooks wait while a transaction runs, then go into the next one all together.

One flusher per process, window 0: the next batch starts as soon as the last has committed. Nothing is acknowledged
before its transaction is (rule B3). What can be done for the next batch is done while the database works on the last:
its messages are made ready as they come, and callers are told after the next statement was sent.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

import structlog
from prometheus_client import Counter, Histogram

from hub.actions.arrivals import Arrival, News, quarantined
from hub.actions.receive import Received, receive
from hub.actions.resolve import Directory, match_keys
from hub.actions.take_messages import Batch, Placed, add_webhook, outcome_of, store
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.store.contacts import MatchKey
from hub.store.inbound import add_quarantined
from hub.store.intake import OutOfDate
from hub.store.pool import BadData, Connection, Database, Dedicated, TryAgain, translated
from hub.store.routes import Roster
from providers.base import IdentityChanged, Unparsed

log = structlog.get_logger()

MAX_BATCH: Final = 500
"""Items in one transaction: bounds how long one flush may take."""
_FRESH: Final = timedelta(milliseconds=50)
"""What was made ready longer ago than this is made anew: its messages bear the time it was begun."""
_RETRIES: Final = 5
_GRACE: Final = 2.0

ITEMS = Counter("partyline_inbound_items", "Provider items by what became of them", ["outcome"])
FLUSH = Histogram(
    "partyline_ingest_flush_seconds", "One ingest transaction", buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2)
)


@dataclass(slots=True)
class _Waiting:
    arrivals: Sequence[Arrival]
    done: "asyncio.Future[None]"


@dataclass(slots=True)
class _Load:
    """What goes into one transaction: plain messages of known customers in one statement, and the rest.

    A customer's webhooks stay in order: whoever has something in the rest has everything after it there, too.
    `learned` is the state of the process's memory that it was made with.
    """

    batch: Batch
    learned: int
    waiting: list[_Waiting] = field(default_factory=list)
    plain: list[_Waiting] = field(default_factory=list)
    rest: list[_Waiting] = field(default_factory=list)
    items: int = 0
    elsewhere: set[MatchKey] = field(default_factory=set)


class Intake:
    """Takes verified, parsed webhooks and answers when they are durable."""

    def __init__(self, database: Database, publish: Callable[[Sequence[Event]], None], *, queue_limit: int) -> None:
        self._database = database
        self._publish = publish
        self._limit = queue_limit
        self._wake = asyncio.Event()
        self._directory = Directory()
        self._roster = Roster()
        self._learned = 0
        self._load = self._new_load()
        self._queue: deque[_Waiting] = deque()
        self._link: Dedicated | None = None

    async def submit(self, arrivals: Sequence[Arrival]) -> None:
        """Return once all of them are stored or quarantined. Raises `Unavailable`: then none of them is."""
        if not arrivals:
            return
        if len(self._load.waiting) + len(self._queue) >= self._limit:
            raise Unavailable("too many webhooks are waiting for the database")
        waiting = _Waiting(arrivals, asyncio.get_running_loop().create_future())
        if self._queue or not self._has_room(waiting):
            self._queue.append(waiting)
        else:
            self._put(waiting)
        self._wake.set()
        await waiting.done

    async def run(self) -> None:
        """The flusher; runs until cancelled, and finishes what is queued first."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._load.waiting:
                    await self._flush(self._next_load())
        finally:
            await self._disconnect()

    async def drain(self) -> None:
        """Wait until nothing is queued, within the time a shutdown has: whoever is not answered tries again."""
        pending = [waiting.done for waiting in (*self._load.waiting, *self._queue)]
        if pending:
            await asyncio.wait(pending, timeout=_GRACE)

    # What goes into a transaction

    def _new_load(self) -> _Load:
        return _Load(Batch(datetime.now(UTC), self._roster.version), self._learned)

    def _next_load(self) -> _Load:
        """What is ready, made anew where it was made long ago, or with what is not true any more."""
        load, self._load = self._load, self._new_load()
        if load.learned != self._learned or self._load.batch.at - load.batch.at > _FRESH:
            stale, load = load, self._new_load()
            for waiting in stale.waiting:
                self._add(load, waiting)
        while self._queue and self._has_room(self._queue[0]):
            self._put(self._queue.popleft())
        return load

    def _put(self, waiting: _Waiting) -> None:
        if not self._load.waiting:
            self._load = self._new_load()
        self._add(self._load, waiting)

    def _has_room(self, waiting: _Waiting) -> bool:
        return not self._load.waiting or self._load.items + len(waiting.arrivals) <= MAX_BATCH

    def _add(self, load: _Load, waiting: _Waiting) -> None:
        load.waiting.append(waiting)
        load.items += len(waiting.arrivals)
        if add_webhook(load.batch, self._roster, self._directory, waiting.arrivals, load.elsewhere):
            load.plain.append(waiting)
            return
        load.rest.append(waiting)
        for arrival in waiting.arrivals:
            if not isinstance(arrival.item, Unparsed | News):
                load.elsewhere |= match_keys(arrival.item.customer)
            if isinstance(arrival.item, IdentityChanged):
                load.elsewhere |= match_keys(arrival.item.now)

    # Storing it

    async def _flush(self, load: _Load) -> None:
        with FLUSH.time():
            try:
                if load.plain:
                    await self._flush_plain(load)
                if load.rest:
                    await self._store(load.rest)
            except asyncio.CancelledError:
                for waiting in load.waiting:
                    waiting.done.cancel()
                raise
            except Exception as error:
                if not isinstance(error, Unavailable):
                    log.exception("ingest.failed", webhooks=len(load.waiting))
                await self._refuse(load, error)

    async def _refuse(self, load: _Load, error: Exception) -> None:
        """Nothing of the rest of this load is stored; neither may be what came after it, or it would overtake (B6)."""
        refusal = error if isinstance(error, Unavailable) else Unavailable("the batch could not be stored")
        refused = [*load.waiting, *self._load.waiting, *self._queue]
        self._load = self._new_load()
        self._queue.clear()
        for waiting in refused:
            if not waiting.done.done():
                waiting.done.set_exception(refusal)
        await self._disconnect()

    async def _flush_plain(self, load: _Load) -> None:
        """Store in one statement, or the long way where what the process remembers turns out not to be true."""
        link = await self._connected()
        try:
            async with translated():
                placed = await store(link.conn, load.batch)
        except (OutOfDate, TryAgain, BadData):
            self._forget_roster()
            await self._store(load.plain)
            return
        if load.rest:
            self._finish(load, placed)
        else:  # the next load is on its way before this one's callers are told
            asyncio.get_running_loop().call_soon(self._finish, load, placed)

    def _finish(self, load: _Load, placed: Placed) -> None:
        """Hand on the events of what is durable now, and tell everybody whose webhook it is."""
        try:
            events, fresh = outcome_of(load.batch, placed)
            self._publish(events)
            ITEMS.labels("taken").inc(fresh)
            ITEMS.labels("duplicate").inc(load.batch.messages - fresh)
        finally:
            _answer(load.plain)

    async def _store(self, part: list[_Waiting]) -> None:
        """The long way; what it found out is remembered for the short one."""
        arrivals = [arrival for waiting in part for arrival in waiting.arrivals]
        result = await self._receive(arrivals)
        self._learn(result)
        self._publish(result.events)
        self._count(result)
        _answer(part)

    def _learn(self, result: Received) -> None:
        if self._roster.version != result.roster.version:
            self._roster = Roster(result.roster.version)
            self._learned += 1
        if result.learned or result.roster.routes.keys() - self._roster.routes.keys():
            self._learned += 1
        self._directory.learn(result.learned)
        self._roster.routes |= result.roster.routes

    def _forget_roster(self) -> None:
        self._roster = Roster()
        self._learned += 1

    async def _receive(self, arrivals: Sequence[Arrival]) -> Received:
        """News of a changed number or id in a transaction of its own: who said something before it is who they were
        then, and its locks go before all others (E2).
        """
        total = Received()
        for part in _parts(arrivals):
            total.add(await self._receive_part(part))
        return total

    async def _receive_part(self, arrivals: Sequence[Arrival]) -> Received:
        for _ in range(_RETRIES):
            link = await self._connected()
            try:
                async with link.transaction() as conn:
                    return await receive(conn, self._directory, arrivals, datetime.now(UTC))
            except TryAgain:
                continue
            except Unavailable:
                raise
            except Exception as error:  # whatever it is, it comes from one item of these
                log.warning("ingest.bad_item", error=type(error).__name__, items=len(arrivals))
                return await self._divided(link, arrivals)
        raise Unavailable("the batch kept losing against other processes")

    async def _divided(self, link: Dedicated, arrivals: Sequence[Arrival]) -> Received:
        """One item is bad: find it by halves, quarantine it, and take its neighbours in (B5), in order. Each part in a
        transaction of its own: together they would lock conversations after shards, against the order (E2).
        """
        total, middle = Received(), (len(arrivals) + 1) // 2
        for part in (arrivals[:middle], arrivals[middle:]):
            if part:
                total.add(await self._part(link, part))
        return total

    async def _part(self, link: Dedicated, arrivals: Sequence[Arrival]) -> Received:
        try:
            async with link.transaction() as conn:
                return await receive(conn, self._directory, arrivals, datetime.now(UTC))
        except (TryAgain, Unavailable):
            raise
        except Exception as error:
            if len(arrivals) > 1:
                return await self._divided(link, arrivals)
            log.exception("ingest.item_failed", provider=arrivals[0].provider)
            async with link.transaction() as conn:
                return await self._set_aside(conn, arrivals[0], type(error).__name__)

    async def _set_aside(self, conn: Connection, arrival: Arrival, why: str) -> Received:
        raw = arrival.route.envelopes(arrival.request).get(arrival.item.key, arrival.request.body)
        entry = quarantined(arrival, "not_storable", why, raw)
        await add_quarantined(conn, [entry])
        return Received(quarantined=[entry])

    async def _connected(self) -> Dedicated:
        if self._link is None:
            self._link = await self._database.dedicated()
        return self._link

    async def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link:
            await link.close()

    def _count(self, result: Received) -> None:
        ITEMS.labels("taken").inc(result.fresh)
        ITEMS.labels("duplicate").inc(result.duplicates)
        for entry in result.quarantined:
            outcome = "noted" if entry.is_note else "quarantined"
            ITEMS.labels(outcome).inc()
            log.warning("webhook.quarantined", provider=entry.provider, reason=entry.reason, outcome=outcome)


def _parts(arrivals: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    """In order, each news of a changed identity by itself."""
    for _, some in groupby(enumerate(arrivals), lambda at: at[0] if isinstance(at[1].item, IdentityChanged) else -1):
        yield [arrival for _, arrival in some]


def _answer(stored: Sequence[_Waiting]) -> None:
    """Tell everybody whose webhook is durable now."""
    for waiting in stored:
        if not waiting.done.done():
            waiting.done.set_result(None)
