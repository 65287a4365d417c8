"""Brings clicks that were spooled while the database was away into it, each once; and finds out that it is back."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Counter

from hub.actions.stitch_clicks import stitch_clicks
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.domain.tracking import Tracking
from hub.store import clicks as store
from hub.store.clicks import Click, ClickSpool
from hub.store.landings import lock_proofs
from hub.store.leases import confirm
from hub.store.pool import BadData, Database, TryAgain
from hub.workers.clicks import PATIENCE, Clicks

log = structlog.get_logger()

INTERVAL: Final = 0.25
"""Seconds between attempts to empty the spool, and to reach a database that is away."""
TOGETHER: Final = 200
"""Clicks in one transaction: it may hold locks of what they are stitched to."""
_TO_CONNECT: Final = 1.0
_RETRIES: Final = 5
_MADE_AHEAD: Final = timedelta(days=1)
"""Clicks that are older may be of a day that no partition was made for."""

REPLAYED = Counter("partyline_clicks_replayed", "Clicks brought in from the spool that the database did not have")


class ClickReplay:
    """The loop that empties the spool."""

    def __init__(
        self,
        database: Database,
        spool: ClickSpool,
        clicks: Clicks,
        tracking: Tracking,
        publish: Callable[[Sequence[Event]], None],
    ) -> None:
        self._database = database
        self._spool = spool
        self._clicks = clicks
        self._tracking = tracking
        self._publish = publish

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            with suppress(OSError):  # the disk is against it: later
                await self._spool.adopt()
            if self._clicks.is_away:
                if not await self._is_back():
                    continue
                self._clicks.has_come_back()
            if not self._spool.is_empty:
                await self._drain()

    async def _is_back(self) -> bool:
        """Whether the database answers, as fast as clicks need it to: on a new connection, as theirs will be. Those of
        the pool may be to a server that is not there any more.
        """
        try:
            async with asyncio.timeout(_TO_CONNECT):
                link = await self._database.dedicated()
        except (TimeoutError, Unavailable):
            return False
        try:
            async with asyncio.timeout(PATIENCE):
                await confirm(link.conn)
        except (TimeoutError, Unavailable):
            return False
        finally:
            await link.close()
        return True

    async def _drain(self) -> None:
        try:
            while entries := await self._spool.read(TOGETHER):
                added = await self._replay(entries)
                await self._spool.drop(len(entries))
                REPLAYED.inc(added)
                log.info("clicks.replayed", clicks=len(entries), added=added)
        except (TryAgain, Unavailable):
            return
        except OSError:
            log.exception("clicks.spool_not_read")

    async def _replay(self, clicks: Sequence[Click], *, may_stitch: bool = True) -> int:
        """One click that fails is found, and told; that it cannot be stitched does not keep it from being stored."""
        for _ in range(_RETRIES):
            try:
                return await self._store(clicks, may_stitch=may_stitch)
            except TryAgain:
                continue
            except Unavailable:
                raise
            except Exception as error:
                if len(clicks) > 1:
                    return sum([await self._replay([click]) for click in clicks])
                log.exception("clicks.replay_failed", click=str(clicks[0].id), is_data=isinstance(error, BadData))
                return await self._replay(clicks, may_stitch=False) if may_stitch else 0
        raise TryAgain("the clicks kept losing against other transactions")

    async def _store(self, clicks: Sequence[Click], *, may_stitch: bool) -> int:
        now = datetime.now(UTC)
        if min(click.at for click in clicks) < now - _MADE_AHEAD:
            async with self._database.transaction() as conn:
                await store.make_click_days(conn, clicks)
        async with self._database.transaction() as conn:
            await lock_proofs(conn, store.proofs_of(clicks))
            added = await store.replay_clicks(conn, clicks)
            awaited = await store.list_awaited(conn, clicks) if may_stitch else []
            events = await stitch_clicks(conn, awaited, self._tracking, now) if awaited else []
        self._publish(events)
        return added
