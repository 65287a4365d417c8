"""Tells services of clicks on tracked links, soon after they were stored and each once."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter

from hub.actions.tell_clicks import Told, tell_clicks
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.domain.tracking import ConsentMode
from hub.store import untold
from hub.store.pool import Database, TryAgain

log = structlog.get_logger()

LOOK: Final = 0.25
"""Seconds between looks for clicks that are untold: one look-up in an index. Being notified would have all processes
that store clicks wait for each other when they commit.
"""
TOGETHER: Final = 500
"""Clicks told in one transaction."""

TOLD = Counter("partyline_clicks_told", "Clicks of people that services were told of, or that nobody may hear of")


class Teller:
    """In every process that takes clicks in; the database lets one of them tell at a time, in the order of the clicks,
    so that none has to wait for another that died.
    """

    def __init__(self, database: Database, publish: Callable[[Sequence[Event]], None], mode: ConsentMode) -> None:
        self._database = database
        self._publish = publish
        self._mode = mode

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            with suppress(Unavailable):  # what is untold stays so
                await self.tell()
            await asyncio.sleep(LOOK)

    async def tell(self) -> None:
        """Tell of all there is to tell, unless another process is at it. Raises `Unavailable`."""
        async with self._database.reading() as conn:
            is_left = await untold.is_any(conn)
        while is_left:
            told = await self._tell_some()
            is_left = told is not None and told.clicks == TOGETHER

    async def _tell_some(self) -> Told | None:
        """One batch; None where another process tells, or was in the way."""
        try:
            async with self._database.transaction() as conn:
                told = await tell_clicks(conn, TOGETHER, self._mode, datetime.now(UTC))
        except TryAgain:
            return None
        if told is None or not told.clicks:
            return told
        self._publish(told.events)
        TOLD.inc(told.clicks)
        log.info("clicks.told", clicks=told.clicks, events=len(told.events))
        return told
