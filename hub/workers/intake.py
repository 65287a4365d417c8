"""The micro-batcher: webhooks wait while a transaction runs, then go into the next one all together.

One flusher per process, window 0: the next batch starts as soon as the last has committed. Nothing is acknowledged
before its transaction is (rule B3).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter, Histogram

from hub.actions.arrivals import Arrival, quarantined
from hub.actions.receive import Received, receive
from hub.actions.resolve import Directory, match_keys
from hub.actions.take_messages import Batch, add_webhook, store
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.store.contacts import MatchKey
from hub.store.inbound import add_quarantined
from hub.store.intake import OutOfDate
from hub.store.pool import BadData, Connection, Database, Dedicated, TryAgain, translated
from hub.store.routes import Roster
from providers.base import Unparsed

log = structlog.get_logger()

MAX_BATCH: Final = 500
"""Items in one transaction: bounds how long one flush may take."""
_RETRIES: Final = 5
_GRACE: Final = 2.0

ITEMS = Counter("partyline_inbound_items", "Provider items by what became of them", ["outcome"])
FLUSH = Histogram(
    "partyline_ingest_flush_seconds", "One ingest transaction", buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2)
)


@dataclass(slots=True)
class _Waiting:
    arrivals: Sequence[Arrival]
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class _Plain:
    waiting: list[_Waiting] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)


class Intake:
    """Takes verified, parsed webhooks and answers when they are durable."""

    def __init__(self, database: Database, publish: Callable[[Sequence[Event]], None], *, queue_limit: int) -> None:
        self._database = database
        self._publish = publish
        self._queue: deque[_Waiting] = deque()
        self._limit = queue_limit
        self._wake = asyncio.Event()
        self._directory = Directory()
        self._roster = Roster()
        self._link: Dedicated | None = None

    async def submit(self, arrivals: Sequence[Arrival]) -> None:
        """Return once all of them are stored or quarantined. Raises `Unavailable`: then none of them is."""
        if not arrivals:
            return
        if len(self._queue) >= self._limit:
            raise Unavailable("too many webhooks are waiting for the database")
        waiting = _Waiting(arrivals)
        self._queue.append(waiting)
        self._wake.set()
        await waiting.done

    async def run(self) -> None:
        """The flusher; runs until cancelled, and finishes what is queued first."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._flush(self._next_batch())
        finally:
            await self._disconnect()

    async def drain(self) -> None:
        """Wait until nothing is queued, within the time a shutdown has: whoever is not answered tries again."""
        pending = [waiting.done for waiting in self._queue]
        if pending:
            await asyncio.wait(pending, timeout=_GRACE)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0].arrivals) <= MAX_BATCH):
            waiting = self._queue.popleft()
            batch.append(waiting)
            size += len(waiting.arrivals)
        return batch

    async def _flush(self, batch: list[_Waiting]) -> None:
        """Store what waits: plain messages of known customers in one statement, all else in one transaction."""
        with FLUSH.time():
            try:
                plain, rest = self._part(batch)
                if plain.waiting:
                    await self._store_plain(plain)
                    _answer(plain.waiting)
                if rest:
                    await self._store(rest)
                    _answer(rest)
            except asyncio.CancelledError:
                for waiting in batch:
                    waiting.done.cancel()
                raise
            except Exception as error:
                if not isinstance(error, Unavailable):
                    log.exception("ingest.failed", webhooks=len(batch))
                await self._refuse(batch, error)

    async def _refuse(self, batch: list[_Waiting], error: Exception) -> None:
        """Nothing of the rest of this batch is stored; neither may be what came after it, or it would overtake (B6)."""
        refusal = error if isinstance(error, Unavailable) else Unavailable("the batch could not be stored")
        refused = [*batch, *self._queue]
        self._queue.clear()
        for waiting in refused:
            if not waiting.done.done():
                waiting.done.set_exception(refusal)
        await self._disconnect()

    def _part(self, batch: list[_Waiting]) -> tuple["_Plain", list[_Waiting]]:
        """Part the batch; a customer's webhooks stay in order, so whoever waits in the rest waits there entirely."""
        plain, rest, now = _Plain(), [], datetime.now(UTC)
        elsewhere: set[MatchKey] = set()
        for waiting in batch:
            if add_webhook(plain.batch, self._roster, self._directory, waiting.arrivals, elsewhere, now):
                plain.waiting.append(waiting)
            else:
                rest.append(waiting)
                for arrival in waiting.arrivals:
                    if not isinstance(arrival.item, Unparsed):
                        elsewhere |= match_keys(arrival.item.customer)
        return plain, rest

    async def _store_plain(self, plain: "_Plain") -> None:
        link = await self._connected()
        try:
            async with translated():
                taken = await store(link.conn, self._roster, plain.batch, datetime.now(UTC))
        except (OutOfDate, TryAgain, BadData):
            self._roster.version = -1
            await self._store(plain.waiting)
            return
        self._publish(taken.events)
        ITEMS.labels("taken").inc(taken.fresh)
        ITEMS.labels("duplicate").inc(taken.duplicates)

    async def _store(self, part: list[_Waiting]) -> None:
        """The long way; what it found out is remembered for the short one."""
        arrivals = [arrival for waiting in part for arrival in waiting.arrivals]
        result = await self._receive(arrivals)
        self._directory.learn(result.learned)
        if self._roster.version != result.roster.version:
            self._roster = result.roster
        self._roster.routes |= result.roster.routes
        self._publish(result.events)
        self._count(result)

    async def _receive(self, arrivals: Sequence[Arrival]) -> Received:
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
                return await self._one_by_one(link, arrivals)
        raise Unavailable("the batch kept losing against other processes")

    async def _one_by_one(self, link: Dedicated, arrivals: Sequence[Arrival]) -> Received:
        """One item is bad: find it, quarantine it, and take its neighbours in (B5). Each in a transaction of its own:
        together they would lock conversations after shards, against the order (E2).
        """
        total = Received()
        for arrival in arrivals:
            try:
                async with link.transaction() as conn:
                    one = await receive(conn, self._directory, [arrival], datetime.now(UTC))
            except (TryAgain, Unavailable):
                raise
            except Exception as error:
                log.exception("ingest.item_failed", provider=arrival.provider)
                async with link.transaction() as conn:
                    one = await self._set_aside(conn, arrival, type(error).__name__)
            total.events += one.events
            total.learned |= one.learned
            total.fresh += one.fresh
            total.duplicates += one.duplicates
            total.quarantined += one.quarantined
        return total

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


def _answer(stored: Sequence[_Waiting]) -> None:
    """Tell everybody whose webhook is durable now."""
    for waiting in stored:
        if not waiting.done.done():
            waiting.done.set_result(None)
