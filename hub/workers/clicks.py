"""Clicks on tracked links, made durable before they are answered.

As with webhooks, clicks wait while a batch is written and go into the next one together. A click does not wait for a
database that does not answer: what is not stored within `PATIENCE` goes to a spool on the local disk, and from then
on every click does, until the database is back. What was given up on may have been stored all the same; a click is
known by its id and time, so that it is there once.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog
from prometheus_client import Counter, Histogram

from hub.domain.errors import Unavailable
from hub.store.clicks import Click, ClickSpool, add_clicks
from hub.store.pool import Database, Dedicated, TryAgain, translated

log = structlog.get_logger()

PATIENCE: Final = 0.25
"""Seconds a click waits for the database."""
MAX_BATCH: Final = 500
"""Clicks in one transaction."""
_GRACE: Final = 2.0

CLICKS = Counter("partyline_clicks", "Requests to tracked links by the classifier's verdict", ["kind"])
SPOOLED = Counter("partyline_clicks_spooled", "Clicks that went to the spool: the database did not answer")
FLUSH = Histogram(
    "partyline_click_flush_seconds", "One batch of clicks", buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1)
)

_Waiting = tuple[Click, "asyncio.Future[None]", float]
"""A click, who waits for it, and since when (by the loop's clock)."""


class Clicks:
    """Takes clicks and tells when they are durable."""

    def __init__(self, database: Database, spool: ClickSpool) -> None:
        self._database = database
        self._spool = spool
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._waiting: list[_Waiting] = []
        self._link: Dedicated | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._is_back = asyncio.Event()
        self._is_back.set()

    @property
    def is_away(self) -> bool:
        """Whether the database did not answer when it was last asked."""
        return not self._is_back.is_set()

    async def comes_back(self, seconds: float) -> bool:
        """Whether the database answers again, within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_back.wait()
        return not self.is_away

    def submit(self, click: Click) -> "asyncio.Future[None]":
        """Gives what is done once the click is stored, or on disk. It raises `Unavailable` where neither was possible:
        the click is lost then.
        """
        done = self._loop.create_future()
        self._waiting.append((click, done, self._loop.time()))
        self._wake.set()
        return done

    def has_come_back(self) -> None:
        """The database answers again."""
        if self.is_away:
            log.info("clicks.database_back")
        self._is_back.set()

    async def run(self) -> None:
        """The flusher; runs until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                    await self._flush(batch)
        finally:
            self._let_go()
            await asyncio.gather(*self._closing)

    async def drain(self) -> None:
        """Wait until no click waits, within the time a shutdown has."""
        pending = [done for _, done, _ in self._waiting]
        if pending:
            await asyncio.wait(pending, timeout=_GRACE)

    async def _flush(self, batch: list[_Waiting]) -> None:
        try:
            if self.is_away or not await self._store(batch):
                await self._keep(batch)
            else:  # the next batch is on its way before this one's callers are told
                self._loop.call_soon(_answer, batch)
        except asyncio.CancelledError:
            for _, done, _ in batch:
                done.cancel()
            raise

    async def _store(self, batch: list[_Waiting]) -> bool:
        """Write them in one transaction; False where that failed, or took too long to tell."""
        clicks = [click for click, _, _ in batch]
        try:
            with FLUSH.time():
                async with asyncio.timeout_at(batch[0][2] + PATIENCE):
                    await self._write(clicks)
        except Exception as error:
            if isinstance(error, TimeoutError | Unavailable):
                log.warning("clicks.database_away", clicks=len(batch), reason=type(error).__name__)
            else:
                log.exception("clicks.not_stored", clicks=len(batch))
            self._is_back.clear()
            self._let_go()
            return False
        return True

    async def _write(self, clicks: Sequence[Click]) -> None:
        if self._link is None:
            self._link = await self._database.dedicated()
        try:
            async with translated():
                await add_clicks(self._link.conn, clicks)
        except TryAgain:  # once: other writers of these links or visitors are done by then
            async with translated():
                await add_clicks(self._link.conn, clicks)

    async def _keep(self, batch: list[_Waiting]) -> None:
        """Put them on the local disk, with all that wait by now: they need not ask the database first."""
        batch += self._waiting
        self._waiting = []
        try:
            await self._spool.append([click for click, _, _ in batch])
        except Exception:  # the disk's, as a rule; whatever it is, nobody may wait for ever
            log.exception("clicks.lost", clicks=len(batch))
            for _, done, _ in batch:
                if not done.done():
                    done.set_exception(Unavailable("the click could not be stored"))
            return
        SPOOLED.inc(len(batch))
        _answer(batch)

    def _let_go(self) -> None:
        """Close the connection, without waiting for it."""
        link, self._link = self._link, None
        if link:
            closing = asyncio.create_task(link.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _answer(batch: list[_Waiting]) -> None:
    """Tell everybody whose click is durable now."""
    for kind, count in Tally(click.kind for click, _, _ in batch).items():
        CLICKS.labels(kind).inc(count)
    for _, done, _ in batch:
        if not done.done():
            done.set_result(None)
